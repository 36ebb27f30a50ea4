package filter

import (
	"fmt"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
)

// Until reads the key "until": a time, seconds since 1970, or how long before now. Without it the time is zero.
func (a Args) Until(now time.Time) (time.Time, error) {
	if !a.Has("until") {
		return time.Time{}, nil
	}
	if len(a["until"]) > 1 {
		return time.Time{}, fmt.Errorf("more than one until filter specified: %w", errdefs.ErrInvalidArgument)
	}
	text := a["until"][0]
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return time.UnixMicro(int64(n * 1e6)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid filter 'until=%s': want a time or a duration: %w", text, errdefs.ErrInvalidArgument)
}
