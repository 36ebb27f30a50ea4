package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// platformJSON is a platform as the API takes it in a query.
type platformJSON struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

func addPlatforms(q url.Values, key string, list []string) error {
	for _, s := range list {
		if err := addPlatform(q, key, s); err != nil {
			return err
		}
	}
	return nil
}

// addPlatform adds os/architecture[/variant] to a query.
func addPlatform(q url.Values, key, s string) error {
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return fmt.Errorf("invalid platform %q: use os/architecture[/variant]", s)
	}
	p := platformJSON{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	q.Add(key, string(b))
	return nil
}
