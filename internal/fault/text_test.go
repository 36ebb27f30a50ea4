package fault

import (
	"errors"
	"fmt"
	"testing"
)

func TestTextLeavesOutWhatToTry(t *testing.T) {
	inner := &Error{Code: "c", What: "it is gone", Cause: "somebody took it", Try: "look again"}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("read it: %w", inner), "read it: it is gone: somebody took it"},
		{&Error{Code: "c", What: "it is gone"}, "it is gone"},
		{errors.New("plain (try: nothing)"), "plain (try: nothing)"},
	} {
		if got := Text(tc.err); got != tc.want {
			t.Errorf("Text(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
}
