package logfile

import (
	"fmt"
	"regexp"
	"strings"
)

// Container is what the options labels, env and tag choose from.
type Container struct {
	ID, Name           string // the name without its slash
	ImageID, ImageName string
	DaemonName         string
	Labels             map[string]string
	Env                []string
}

// Attributes evaluates docker's options labels, labels-regex, env, env-regex and tag for a container. The result, nil
// when no option chooses anything, belongs into Config.Attrs. Bad options are an errdefs.ErrInvalidArgument.
func Attributes(options map[string]string, c Container) (map[string]string, error) {
	attrs := map[string]string{}
	for _, name := range strings.Split(options["labels"], ",") {
		if v, ok := c.Labels[strings.TrimSpace(name)]; ok {
			attrs[strings.TrimSpace(name)] = v
		}
	}
	env := make(map[string]string, len(c.Env))
	for _, e := range c.Env {
		if k, v, ok := strings.Cut(e, "="); ok {
			env[k] = v
		}
	}
	for _, name := range strings.Split(options["env"], ",") {
		if v, ok := env[strings.TrimSpace(name)]; ok {
			attrs[strings.TrimSpace(name)] = v
		}
	}
	if err := matching(attrs, "labels-regex", options["labels-regex"], c.Labels); err != nil {
		return nil, err
	}
	if err := matching(attrs, "env-regex", options["env-regex"], env); err != nil {
		return nil, err
	}
	if t, ok := options["tag"]; ok && t != "" {
		tag, err := expandTag(t, c)
		if err != nil {
			return nil, err
		}
		attrs["tag"] = tag
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

func checkAttribute(name, value string) error {
	switch name {
	case "labels-regex", "env-regex":
		return matching(nil, name, value, nil)
	case "tag":
		_, err := expandTag(value, Container{})
		return err
	}
	return nil
}

func matching(attrs map[string]string, option, expr string, from map[string]string) error {
	if expr == "" {
		return nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return invalid("log-option-value", fmt.Sprintf("invalid value for log option %s: %q: %v", option, expr, err), "")
	}
	for k, v := range from {
		if re.MatchString(k) {
			attrs[k] = v
		}
	}
	return nil
}

// expandTag replaces the fields of docker's log tags. It is not text/template: that would link reflection into the
// keeper, and docker documents exactly these fields.
func expandTag(tag string, c Container) (string, error) {
	var b strings.Builder
	for rest := tag; ; {
		before, after, found := strings.Cut(rest, "{{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		field, tail, closed := strings.Cut(after, "}}")
		value, known := tagField(strings.TrimSpace(field), c)
		if !closed || !known {
			return "", invalid("log-option-value", fmt.Sprintf("invalid value for log option tag: %q: unknown field {{%s}}", tag, field),
				"{{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}} or {{.DaemonName}}")
		}
		b.WriteString(value)
		rest = tail
	}
}

func tagField(field string, c Container) (value string, known bool) {
	switch field {
	case ".ID":
		return short(c.ID), true
	case ".FullID":
		return c.ID, true
	case ".Name":
		return c.Name, true
	case ".ImageID":
		return short(strings.TrimPrefix(c.ImageID, "sha256:")), true
	case ".ImageFullID":
		return c.ImageID, true
	case ".ImageName":
		return c.ImageName, true
	case ".DaemonName":
		return c.DaemonName, true
	}
	return "", false
}

func short(id string) string { return id[:min(12, len(id))] }
