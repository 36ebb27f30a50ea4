package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// description is Docker's own description of one version of its API.
type description struct {
	Paths       map[string]map[string]yaml.Node
	Definitions map[string]*schema
	Responses   map[string]*response
}

type operation struct {
	Responses map[string]*response
}

type response struct {
	Ref    string `yaml:"$ref"`
	Schema *schema
}

// schema is as much of a JSON schema as the description uses.
type schema struct {
	Ref                  string `yaml:"$ref"`
	Type                 kind
	Properties           map[string]*schema
	Items                *schema
	AllOf                []*schema `yaml:"allOf"`
	AdditionalProperties yaml.Node `yaml:"additionalProperties"`
	Required             []string
	Enum                 []any
	Nullable             bool `yaml:"x-nullable"`
}

// kind is a type, the first one where the description has several.
type kind string

// UnmarshalYAML reads both forms.
func (k *kind) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Content[0].Decode(k)
	}
	*k = kind(n.Value)
	return nil
}

// apiModule is the directory of the module in which Docker publishes the descriptions.
func apiModule(t *testing.T) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Skipf("skip: the module with Docker's API description is not there: %v", err)
	}
	return strings.TrimSpace(string(dir))
}

// describe reads the description of a version; "" is the newest.
func describe(t *testing.T, version string) *description {
	t.Helper()
	file := "swagger.yaml"
	if version != "" {
		file = filepath.Join("docs", "v"+version+".yaml")
	}
	raw, err := os.ReadFile(filepath.Join(apiModule(t), file))
	if err != nil {
		t.Fatal(err)
	}
	d := new(description)
	if err := yaml.Unmarshal(raw, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// operations are all that the description has, as "METHOD /path", in order.
func (d *description) operations() []string {
	var list []string
	for path, methods := range d.Paths {
		for method := range methods {
			if method != "parameters" {
				list = append(list, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(list)
	return list
}

// answers returns what the description has an operation answer, by status.
func (d *description) answers(op string) map[string]*response {
	method, path, _ := strings.Cut(op, " ")
	node, ok := d.Paths[path][strings.ToLower(method)]
	if !ok {
		return nil
	}
	var o operation
	if err := node.Decode(&o); err != nil {
		panic(err)
	}
	for status, r := range o.Responses {
		if name, ok := strings.CutPrefix(r.Ref, "#/responses/"); ok {
			o.Responses[status] = d.Responses[name]
		}
	}
	return o.Responses
}

// shape compares a JSON value with a schema.
type shape struct {
	d *description
	// strict also takes offence at what the schema does not know.
	strict bool
	faults []string
	// seen says of each property that the schema has whether a value had it.
	seen map[string]bool
}

func (s *shape) faultf(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

func (s *shape) check(raw []byte, want *schema) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		s.faultf("no JSON: %v", err)
		return
	}
	s.value("", v, want)
}

func (s *shape) value(at string, v any, want *schema) {
	if name, ok := strings.CutPrefix(want.Ref, "#/definitions/"); ok {
		s.value(at, v, s.d.Definitions[name])
		return
	}
	if v == nil {
		return // Whether null may stand for empty differs from field to field.
	}
	if len(want.Enum) > 0 && !slices.ContainsFunc(want.Enum, func(e any) bool { return fmt.Sprint(e) == fmt.Sprint(v) }) {
		s.faultf("%s: %v is none of %v", at, v, want.Enum)
	}
	switch v := v.(type) {
	case map[string]any:
		s.object(at, v, want)
	case []any:
		if want.Type != "array" {
			s.faultf("%s: a list, want %s", at, want.Type)
			return
		}
		for _, one := range v {
			s.value(at+"[]", one, want.Items)
		}
	default:
		s.scalar(at, v, want)
	}
}

func (s *shape) scalar(at string, v any, want *schema) {
	got := kind("string")
	switch n := v.(type) {
	case bool:
		got = "boolean"
	case json.Number:
		got = "number"
		if _, err := n.Int64(); err == nil && want.Type == "integer" {
			got = "integer"
		}
		if !strings.ContainsAny(n.String(), ".eE-") && want.Type == "integer" { // uint64
			got = "integer"
		}
	}
	if want.Type != "" && want.Type != got {
		s.faultf("%s: %s %v, want %s", at, got, v, want.Type)
	}
}

func (s *shape) object(at string, v map[string]any, want *schema) {
	properties, required, free := s.members(want)
	if want.Type != "" && want.Type != "object" {
		s.faultf("%s: an object, want %s", at, want.Type)
		return
	}
	for _, key := range required {
		if _, ok := v[key]; !ok {
			s.faultf("%s.%s is missing", at, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		p, ok := properties[key]
		switch {
		case ok:
			s.value(at+"."+key, v[key], p)
		case free != nil && (free.Type != "" || free.Ref != ""):
			s.value(at+".*", v[key], free)
		case free == nil && s.strict && len(properties) > 0 && !strings.HasPrefix(key, "Kist"): // Those are our own.
			s.faultf("%s.%s is not in the description", at, key)
		}
	}
	for key := range properties {
		_, ok := v[key]
		s.seen[at+"."+key] = ok || s.seen[at+"."+key]
	}
}

// members collects an object's properties through all its parts. free is the schema of further ones, nil if there may be none.
func (s *shape) members(want *schema) (properties map[string]*schema, required []string, free *schema) {
	properties = maps.Clone(want.Properties)
	if properties == nil {
		properties = map[string]*schema{}
	}
	required = want.Required
	if want.AdditionalProperties.Kind == yaml.MappingNode {
		free = new(schema)
		if err := want.AdditionalProperties.Decode(free); err != nil {
			panic(err)
		}
	}
	for _, part := range want.AllOf {
		if name, ok := strings.CutPrefix(part.Ref, "#/definitions/"); ok {
			part = s.d.Definitions[name]
		}
		more, alsoRequired, alsoFree := s.members(part)
		maps.Copy(properties, more)
		required = append(required[:len(required):len(required)], alsoRequired...)
		if free == nil {
			free = alsoFree
		}
	}
	return properties, required, free
}
