package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// securityOptions checks --security-opt, reads a seccomp profile's file, and takes out what is said of system paths.
func securityOptions(opts []string) (out []string, pathsOpen bool, err error) {
	out = []string{}
	for _, o := range opts {
		if o == "systempaths=unconfined" {
			pathsOpen = true
			continue
		}
		k, v, ok := strings.Cut(o, "=")
		if !ok && k != "no-new-privileges" {
			k, v, ok = strings.Cut(o, ":")
		}
		if (!ok || v == "") && k != "no-new-privileges" {
			return nil, false, fmt.Errorf("invalid --security-opt: %q", o)
		}
		if k == "seccomp" && v != "unconfined" && v != "builtin" {
			profile, err := os.ReadFile(v)
			if err != nil {
				return nil, false, fmt.Errorf("opening seccomp profile (%s) failed: %w", v, err)
			}
			var b bytes.Buffer
			if err := json.Compact(&b, profile); err != nil {
				return nil, false, fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", v, err)
			}
			o = "seccomp=" + b.String()
		}
		out = append(out, o)
	}
	return out, pathsOpen, nil
}

const capAll = "ALL"

// capabilities brings added and dropped capabilities into one form: upper case, with the prefix, sorted, each once.
func capabilities(add, drop []string) (added, dropped []string) {
	adds, drops := map[string]bool{}, map[string]bool{}
	for _, c := range drop {
		drops[capability(c)] = true
	}
	for _, c := range add {
		adds[capability(c)] = true
	}
	return keysOrNil(adds), keysOrNil(drops)
}

func capability(s string) string {
	s = strings.ToUpper(strings.TrimSpace(s))
	if s != capAll && !strings.HasPrefix(s, "CAP_") {
		s = "CAP_" + s
	}
	return s
}

func keysOrNil(m map[string]bool) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Clip(sortedKeys(m))
}

// umaskFlag is an octal number.
type umaskFlag struct{ value *uint32 }

func (f *umaskFlag) String() string { return "" }
func (f *umaskFlag) Type() string   { return "umask" }

func (f *umaskFlag) Set(s string) error {
	n, err := number(s, 8)
	if err != nil {
		return errors.New("must be octal, as in 0027")
	}
	f.value = n
	return nil
}
