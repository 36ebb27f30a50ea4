package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// environment joins the variables of files and flags; the last value of a name counts. A name alone takes its value
// from this process, and stays alone (which removes it from the image's) when there is none.
func environment(files, flags, defaults []string, lookup func(string) (string, bool)) ([]string, error) {
	lines := defaults
	for _, file := range files {
		ls, err := readLines(file, lookup)
		if err != nil {
			return nil, err
		}
		lines = append(lines, ls...)
	}
	for _, s := range flags {
		name, _, set := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("invalid environment variable: %s", s)
		}
		if v, ok := lookup(name); !set && ok {
			s = name + "=" + v
		}
		lines = append(lines, s)
	}
	at := map[string]int{}
	var out []string
	for _, s := range lines {
		name, _, _ := strings.Cut(s, "=")
		if i, ok := at[name]; ok {
			out[i] = s
			continue
		}
		at[name] = len(out)
		out = append(out, s)
	}
	return out, nil
}

// labelLines joins the labels of files and flags.
func labelLines(files, flags []string) ([]string, error) {
	var lines []string
	for _, file := range files {
		ls, err := readLines(file, nil)
		if err != nil {
			return nil, err
		}
		lines = append(lines, ls...)
	}
	return append(lines, flags...), nil
}

// readLines reads a file of name=value lines; empty lines and comments are left out. A name alone takes its value from
// lookup, and is left out where there is none.
func readLines(file string, lookup func(string) (string, bool)) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	sc := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	sc.Buffer(nil, len(b)+1)
	for n := 1; sc.Scan(); n++ {
		if !utf8.Valid(sc.Bytes()) {
			return nil, fmt.Errorf("env file %s contains invalid utf8 bytes at line %d: %v", file, n, sc.Bytes())
		}
		line := strings.TrimLeftFunc(sc.Text(), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, set := strings.Cut(line, "=")
		switch {
		case strings.ContainsAny(strings.TrimLeft(name, " \t"), " \t"):
			return nil, fmt.Errorf("invalid env file (%s): variable '%s' contains whitespaces", file, name)
		case name == "":
			return nil, fmt.Errorf("invalid env file (%s): no variable name on line '%s'", file, line)
		case set:
			out = append(out, name+"="+value)
		case lookup != nil:
			if v, ok := lookup(strings.TrimSpace(line)); ok {
				out = append(out, strings.TrimSpace(line)+"="+v)
			}
		}
	}
	return out, sc.Err()
}
