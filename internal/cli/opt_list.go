package cli

import (
	"fmt"
	"strings"
)

// listFlag collects the values of a repeated flag, each one checked by check.
type listFlag struct {
	values []string
	check  func(string) (string, error)
	kind   string
}

func (l *listFlag) Set(s string) error {
	if l.check != nil {
		var err error
		if s, err = l.check(s); err != nil {
			return err
		}
	}
	l.values = append(l.values, s)
	return nil
}

func (l *listFlag) String() string { return "" }

func (l *listFlag) Type() string {
	if l.kind != "" {
		return l.kind
	}
	return "list"
}

// mapFlag collects name=value.
type mapFlag struct {
	values map[string]string
	check  func(string) (string, error)
}

func (m *mapFlag) Set(s string) error {
	if m.check != nil {
		var err error
		if s, err = m.check(s); err != nil {
			return err
		}
	}
	if m.values == nil {
		m.values = map[string]string{}
	}
	k, v, _ := strings.Cut(s, "=")
	m.values[k] = v
	return nil
}

func (m *mapFlag) String() string { return "" }
func (m *mapFlag) Type() string   { return "map" }

// mapOf makes a map of name=value lines; the last one counts.
func mapOf(list []string) map[string]string {
	m := make(map[string]string, len(list))
	for _, s := range list {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	return m
}

// pairs makes a map of values that must be name=value.
func pairs(list []string, what string) (map[string]string, error) {
	m := make(map[string]string, len(list))
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("invalid %s: %q is not name=value", what, s)
		}
		m[k] = v
	}
	return m, nil
}

func checkLabel(s string) (string, error) {
	if name, _, _ := strings.Cut(s, "="); name == "" {
		return "", fmt.Errorf("invalid label '%s': empty name", s)
	}
	return s, nil
}

func checkSysctl(s string) (string, error) {
	name, _, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return "", fmt.Errorf("sysctl '%s' is not name=value", s)
	}
	for _, ns := range []string{
		"net.", "fs.mqueue.", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
		"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.domainname",
	} {
		if name == ns || strings.HasSuffix(ns, ".") && strings.HasPrefix(name, ns) {
			return s, nil
		}
	}
	return "", fmt.Errorf("sysctl '%s' is not allowed: a container has none of that name of its own", s)
}
