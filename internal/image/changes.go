package image

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// changer applies instructions to a configuration.
type changer struct {
	c      *dockerspec.DockerOCIImageConfig
	cmdSet bool
}

// ApplyChanges applies Dockerfile instructions (commit --change, import --change) to a configuration.
func ApplyChanges(c *dockerspec.DockerOCIImageConfig, changes []string) error {
	ch := &changer{c: c}
	for _, change := range changes {
		for _, line := range logicalLines(change) {
			if err := ch.apply(line); err != nil {
				return fmt.Errorf("change %q: %w: %w", line, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	return nil
}

// logicalLines joins lines that end in a backslash, and leaves out empty ones and comments.
func logicalLines(s string) []string {
	var list []string
	for line := range strings.SplitSeq(strings.ReplaceAll(s, "\\\n", ""), "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

func (ch *changer) apply(line string) error {
	name, rest := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		name, rest = line[:i], strings.TrimSpace(line[i:])
	}
	name = strings.ToUpper(name)
	if rest == "" && name != "CMD" && name != "ENTRYPOINT" {
		return fmt.Errorf("%s requires at least one argument", name)
	}
	switch name {
	case "CMD":
		ch.c.Cmd, ch.cmdSet = ch.command(rest), true
	case "ENTRYPOINT":
		ch.c.Entrypoint = ch.command(rest)
		if !ch.cmdSet { // The old arguments were another program's.
			ch.c.Cmd = nil
		}
	case "ENV":
		return ch.env(rest)
	case "LABEL":
		return ch.label(rest)
	case "EXPOSE":
		return ch.expose(rest)
	case "VOLUME":
		return ch.volume(rest)
	case "USER":
		return ch.single(rest, &ch.c.User)
	case "WORKDIR":
		return ch.workdir(rest)
	case "STOPSIGNAL":
		return ch.single(rest, &ch.c.StopSignal)
	case "HEALTHCHECK":
		return ch.healthcheck(rest)
	case "ONBUILD":
		return ch.onbuild(rest)
	case "SHELL":
		list, ok := jsonList(rest)
		if !ok || len(list) == 0 {
			return fmt.Errorf(`SHELL requires the arguments to be in JSON form: ["executable", "parameters"]`)
		}
		ch.c.Shell = list
	default:
		return fmt.Errorf("%s is not a valid change command", name)
	}
	return nil
}

// command reads both forms: a JSON list, or a line for the shell.
func (ch *changer) command(rest string) []string {
	if list, ok := jsonList(rest); ok {
		return list
	}
	if rest == "" {
		return nil
	}
	shell := ch.c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string(nil), shell...), rest)
}

func jsonList(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	list := []string{}
	return list, json.Unmarshal([]byte(s), &list) == nil && list != nil
}

func (ch *changer) words(rest string) ([]string, error) {
	return splitWords(rest, ch.c.Env)
}

func (ch *changer) single(rest string, into *string) error {
	words, err := ch.words(rest)
	if err != nil {
		return err
	}
	if len(words) != 1 || words[0] == "" {
		return fmt.Errorf("requires exactly one argument")
	}
	*into = words[0]
	return nil
}

// pairs reads "key=value ..." or, as of old, "key the rest is the value".
func (ch *changer) pairs(rest string) ([][2]string, error) {
	first, after, _ := strings.Cut(rest, " ")
	if !strings.Contains(first, "=") {
		words, err := ch.words(quoteRest(after))
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(after) == "" {
			return nil, fmt.Errorf("must have two arguments")
		}
		return [][2]string{{first, strings.Join(words, "")}}, nil
	}
	words, err := ch.words(rest)
	if err != nil {
		return nil, err
	}
	var list [][2]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is no key=value", w)
		}
		list = append(list, [2]string{key, value})
	}
	return list, nil
}

// quoteRest makes one word of a value that goes to the end of the line. Quotes around it are taken off by the reader.
func quoteRest(s string) string {
	s = strings.TrimSpace(s)
	return strings.NewReplacer(" ", `\ `, "\t", "\\\t").Replace(s)
}

func (ch *changer) env(rest string) error {
	list, err := ch.pairs(rest)
	if err != nil {
		return err
	}
	env := append([]string(nil), ch.c.Env...)
next:
	for _, kv := range list {
		for i, old := range env {
			if strings.HasPrefix(old, kv[0]+"=") {
				env[i] = kv[0] + "=" + kv[1]
				continue next
			}
		}
		env = append(env, kv[0]+"="+kv[1])
	}
	ch.c.Env = env
	return nil
}

func (ch *changer) label(rest string) error {
	list, err := ch.pairs(rest)
	if err != nil {
		return err
	}
	ch.c.Labels = copySet(ch.c.Labels)
	for _, kv := range list {
		ch.c.Labels[kv[0]] = kv[1]
	}
	return nil
}

// copySet copies a map of a configuration that others may share, so that it can be changed.
func copySet[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (ch *changer) expose(rest string) error {
	words, err := ch.words(rest)
	if err != nil {
		return err
	}
	ch.c.ExposedPorts = copySet(ch.c.ExposedPorts)
	for _, w := range words {
		ports, protocol, ok := strings.Cut(w, "/")
		if !ok {
			protocol = "tcp"
		}
		protocol = strings.ToLower(protocol)
		if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			return fmt.Errorf("invalid proto: %s", protocol)
		}
		first, last, isRange := strings.Cut(ports, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return fmt.Errorf("invalid containerPort: %s", w)
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil || to < from || from == 0 {
			return fmt.Errorf("invalid containerPort: %s", w)
		}
		for p := from; p <= to; p++ {
			ch.c.ExposedPorts[fmt.Sprintf("%d/%s", p, protocol)] = struct{}{}
		}
	}
	return nil
}

func (ch *changer) volume(rest string) error {
	list, ok := jsonList(rest)
	if !ok {
		var err error
		if list, err = ch.words(rest); err != nil {
			return err
		}
	}
	ch.c.Volumes = copySet(ch.c.Volumes)
	for _, v := range list {
		if v = strings.TrimSpace(v); v == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		ch.c.Volumes[v] = struct{}{}
	}
	return nil
}

func (ch *changer) workdir(rest string) error {
	words, err := ch.words(quoteRest(rest))
	if err != nil {
		return err
	}
	dir := strings.Join(words, " ")
	if !path.IsAbs(dir) {
		dir = path.Join("/", ch.c.WorkingDir, dir)
	}
	ch.c.WorkingDir = path.Clean(dir)
	return nil
}

func (ch *changer) onbuild(rest string) error {
	trigger, _, _ := strings.Cut(rest, " ")
	switch strings.ToUpper(trigger) {
	case "ONBUILD":
		return fmt.Errorf("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "FROM", "MAINTAINER":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(trigger))
	}
	ch.c.OnBuild = append(append([]string(nil), ch.c.OnBuild...), rest)
	return nil
}
