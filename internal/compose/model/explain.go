package model

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"go.yaml.in/yaml/v4"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// explain says where in which file the fault lies, and what may be meant. The library has texts only: what they name is looked
// for in the files, and where nothing is found the text stands alone.
func explain(err error, files []string) error {
	if missing := noSuchFile(err, files); missing != nil {
		return missing
	}
	f := &fault.Error{Code: "compose-invalid", Class: errdefs.ErrInvalidArgument}
	text := plain(err, files)
	path := pathIn(text)
	keys := strangers(text)
	if rest, ok := strings.CutSuffix(text, " false schema"); ok && len(path) > 0 && strings.HasSuffix(rest, path[len(path)-1]) {
		keys, path = path[len(path)-1:], path[:len(path)-1]
	}
	if len(keys) > 0 {
		path = append(slices.Clone(path), keys[0])
		text = fmt.Sprintf("%s has no key %q", parent(path), keys[0])
		if near := typo.Nearest(keys[0], knownKeys(path[:len(path)-1])); near != "" {
			f.Try = "did you mean " + near + "?"
		}
	}
	if name := undefined(text); len(path) > 0 && name != "" {
		f.Try = nearDefined(files, text, name)
	}
	if f.Try == "" {
		f.Try = remedy(text)
	}
	f.What = text
	if place := place(files, path); place != "" {
		f.What = place + ": " + text
	} else if len(files) == 1 && !strings.Contains(text, filepath.Base(files[0])) {
		f.What = relative(files[0]) + ": " + text
	}
	return f
}

func parent(path []string) string {
	if len(path) == 1 {
		return "the file"
	}
	return strings.Join(path[:len(path)-1], ".")
}

// sections are the keys that paths begin with.
var sections = []string{"services", "networks", "volumes", "configs", "secrets", "include", "models", "jobs", "name"}

// pathIn finds the path that a text is about: "services.web.ports" or `service "web"`.
func pathIn(text string) []string {
	for word := range strings.FieldsSeq(text) {
		word = strings.NewReplacer("[", ".", "]", "").Replace(strings.Trim(word, `:,"'`+"`"))
		first, _, dotted := strings.Cut(word, ".")
		if dotted && slices.Contains(sections, first) {
			return strings.Split(word, ".")
		}
	}
	for _, one := range []string{"service ", "volume ", "network ", "secret ", "config "} {
		if _, rest, ok := strings.Cut(text, one+`"`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			return []string{strings.TrimSpace(one) + "s", name}
		}
	}
	return nil
}

// strangers are the keys that the schema does not have.
func strangers(text string) []string {
	_, rest, ok := strings.Cut(text, "additional properties ")
	list, _, ended := strings.Cut(rest, " not allowed")
	if !ok || !ended {
		return nil
	}
	var keys []string
	for k := range strings.SplitSeq(list, ", ") {
		keys = append(keys, strings.Trim(k, "'"))
	}
	return keys
}

// undefined is the name that a service refers to and that is not defined.
func undefined(text string) string {
	_, rest, ok := strings.Cut(text, "undefined ")
	if !ok {
		return ""
	}
	words := strings.Fields(strings.TrimPrefix(rest, "build "))
	if len(words) < 2 {
		return ""
	}
	return strings.Trim(words[1], `":,`)
}

// nearDefined says what a name that is not defined may mean.
func nearDefined(files []string, text, name string) string {
	_, rest, _ := strings.Cut(text, "undefined ")
	kind := strings.Fields(strings.TrimPrefix(rest, "build "))[0]
	var all []string
	for _, file := range files {
		if n := child(documentOf(file), kind+"s"); n != nil && n.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(n.Content); i += 2 {
				all = append(all, n.Content[i].Value)
			}
		}
	}
	if near := typo.Nearest(name, all); near != "" {
		return "did you mean " + near + "?"
	}
	if kind == "service" {
		return ""
	}
	return "add it under " + kind + "s: at the end of the file"
}

// place is FILE:LINE of a path, in the last file that has it.
func place(files, path []string) string {
	for _, file := range slices.Backward(files) {
		n := documentOf(file)
		line := 0
		for _, key := range path {
			at := keyNode(n, key)
			if at == nil {
				line = 0
				break
			}
			line, n = at.Line, child(n, key)
		}
		if line > 0 {
			return fmt.Sprintf("%s:%d", relative(file), line)
		}
	}
	return ""
}

// documentOf reads a file's first document; nil if that cannot be done.
func documentOf(file string) *yaml.Node {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var doc yaml.Node
	if yaml.Unmarshal(b, &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// keyNode is where a key stands; for a list, the element.
func keyNode(n *yaml.Node, key string) *yaml.Node {
	if n = resolve(n); n == nil {
		return nil
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i]
			}
		}
	}
	if n.Kind == yaml.SequenceNode {
		return child(n, key)
	}
	return nil
}

// child is a key's value, or the element of a list.
func child(n *yaml.Node, key string) *yaml.Node {
	if n = resolve(n); n == nil {
		return nil
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	}
	if n.Kind == yaml.SequenceNode {
		for i, e := range n.Content {
			if fmt.Sprint(i) == key || e.Value == key {
				return e
			}
		}
	}
	return nil
}

func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// knownKeys are the keys that the schema has at a path.
func knownKeys(path []string) []string {
	root, err := readSchema()
	if err != nil {
		return nil
	}
	parts := root.alternatives(root)
	for _, key := range path {
		var next []*schemaPart
		for _, p := range parts {
			if c, ok := p.Properties[key]; ok {
				next = append(next, c.alternatives(root)...)
				continue
			}
			for _, c := range p.Patterns {
				next = append(next, c.alternatives(root)...)
			}
			if p.Items != nil {
				next = append(next, p.Items.alternatives(root)...)
			}
		}
		parts = next
	}
	known := map[string]bool{}
	for _, p := range parts {
		for k := range p.Properties {
			known[k] = true
		}
	}
	return slices.Sorted(maps.Keys(known))
}

// alternatives are a part and those that it may be instead.
func (s *schemaPart) alternatives(root *schemaPart) []*schemaPart {
	all := []*schemaPart{s}
	if d := root.named(s.Ref); d != nil {
		all = append(all, d.alternatives(root)...)
	}
	for _, more := range [][]*schemaPart{s.OneOf, s.AnyOf, s.AllOf} {
		for _, m := range more {
			all = append(all, m.alternatives(root)...)
		}
	}
	return all
}
