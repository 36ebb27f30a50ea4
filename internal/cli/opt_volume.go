package cli

import (
	"fmt"
	"path/filepath"
	"strings"
)

// splitVolumes reads -v values: those with a source are binds (or named volumes), those without are volumes of the
// container itself.
func splitVolumes(specs []string) (binds []string, own map[string]struct{}, err error) {
	own = map[string]struct{}{}
	seen := map[string]bool{}
	for _, s := range specs {
		if seen[s] {
			continue
		}
		seen[s] = true
		source, err := volumeSource(s)
		if err != nil {
			return nil, nil, err
		}
		if source == "" {
			own[s] = struct{}{}
			continue
		}
		if source == "." || strings.HasPrefix(source, "./") || source == ".." || strings.HasPrefix(source, "../") {
			abs, err := filepath.Abs(source)
			if err != nil {
				return nil, nil, err
			}
			s = abs + strings.TrimPrefix(s, source)
		}
		binds = append(binds, s)
	}
	return binds, own, nil
}

// volumeSource returns the source of [source:]target[:options].
func volumeSource(spec string) (string, error) {
	if spec == "" {
		return "", fmt.Errorf("invalid empty volume spec")
	}
	if len(spec) <= 2 {
		return "", nil
	}
	parts := strings.Split(spec, ":")
	for _, p := range parts {
		if p == "" {
			return "", fmt.Errorf("invalid spec: %s: empty section between colons", spec)
		}
	}
	switch {
	case len(parts) == 1:
		return "", nil
	case len(parts) > 3:
		return "", fmt.Errorf("invalid spec: %s: too many colons", spec)
	}
	return parts[0], nil
}
