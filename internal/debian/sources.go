package debian

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Source is an entry of apt's sources (sources.list(5)).
type Source struct {
	URIs, Suites, Components, Archs []string
	// SignedBy are paths of keyrings or fingerprints of keys; SignedKey is a key itself. Without any, all trusted keys count.
	SignedBy  []string
	SignedKey string
	// Trusted asks for no signature; NoValidUntil takes lists that are too old.
	Trusted, NoValidUntil bool
}

// Flat says whether the source has no components: its lists lie beside its packages.
func (s *Source) Flat() bool { return len(s.Suites) > 0 && strings.HasSuffix(s.Suites[0], "/") }

// ParseSourceList reads sources in the format of one line each. Those of source packages are passed over.
func ParseSourceList(text string) ([]Source, error) {
	var all []Source
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		if kind != "deb" {
			if kind != "" && kind != "deb-src" {
				return nil, fmt.Errorf("line %d is no source: %w", n, errdefs.ErrInvalidArgument)
			}
			continue
		}
		s, err := parseSourceLine(strings.TrimSpace(rest))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSourceLine(rest string) (Source, error) {
	var s Source
	if options, ok := strings.CutPrefix(rest, "["); ok {
		options, after, ok := strings.Cut(options, "]")
		if !ok {
			return s, fmt.Errorf("options without an end: %w", errdefs.ErrInvalidArgument)
		}
		rest = after
		for _, o := range strings.Fields(options) {
			key, value, _ := strings.Cut(o, "=")
			s.option(strings.ToLower(key), strings.Split(value, ","))
		}
	}
	words := strings.Fields(rest)
	if len(words) < 2 {
		return s, fmt.Errorf("a source needs an address and a suite: %w", errdefs.ErrInvalidArgument)
	}
	s.URIs, s.Suites, s.Components = words[:1], words[1:2], words[2:]
	return s, nil
}

func (s *Source) option(key string, values []string) {
	yes := len(values) > 0 && slices.Contains([]string{"yes", "true", "1", "on"}, values[0])
	no := len(values) > 0 && slices.Contains([]string{"no", "false", "0", "off"}, values[0])
	switch key {
	case "arch", "architectures":
		s.Archs = values
	case "signed-by":
		s.SignedBy = values
	case "trusted":
		s.Trusted = yes
	case "check-valid-until":
		s.NoValidUntil = no
	}
}

// ParseSources reads sources in the format of paragraphs (.sources).
func ParseSources(text []byte) ([]Source, error) {
	all, err := parseParagraphs(text)
	if err != nil {
		return nil, err
	}
	var list []Source
	for _, p := range all {
		if !slices.Contains(p.words("Types"), "deb") || p.get("Enabled") == "no" {
			continue
		}
		s := Source{URIs: p.words("URIs"), Suites: p.words("Suites"), Components: p.words("Components")}
		if len(s.URIs) == 0 || len(s.Suites) == 0 {
			return nil, fmt.Errorf("a source needs URIs and Suites: %w", errdefs.ErrInvalidArgument)
		}
		for _, key := range []string{"Architectures", "Trusted", "Check-Valid-Until"} {
			if v := p.words(key); len(v) > 0 {
				s.option(strings.ToLower(key), v)
			}
		}
		if by := p.get("Signed-By"); strings.Contains(by, "BEGIN PGP") {
			s.SignedKey = unfold(by)
		} else if by != "" {
			s.SignedBy = strings.FieldsFunc(by, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\t' })
		}
		list = append(list, s)
	}
	return list, nil
}

// unfold gives a value of several lines its own lines back: a space before each, and a dot for an empty one.
func unfold(value string) string {
	var b strings.Builder
	for line := range strings.Lines(value) {
		line = strings.TrimSpace(line)
		if line == "." {
			line = ""
		}
		b.WriteString(line + "\n")
	}
	return strings.TrimLeft(b.String(), "\n")
}
