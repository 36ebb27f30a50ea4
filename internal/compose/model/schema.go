package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/schema"
)

// schemaPart is a part of the schema of Compose files, as far as the schema goes.
//
// The library that checks files against it takes most of a command's time to read the schema. What this one accepts it would
// accept, too; what this one does not is given to it, for it to say why.
type schemaPart struct {
	Ref         string                 `json:"$ref"`
	Type        oneOrMany              `json:"type"`
	Enum        []any                  `json:"enum"`
	Pattern     string                 `json:"pattern"`
	Minimum     *float64               `json:"minimum"`
	Maximum     *float64               `json:"maximum"`
	Required    []string               `json:"required"`
	Properties  map[string]*schemaPart `json:"properties"`
	Patterns    map[string]*schemaPart `json:"patternProperties"`
	Additional  *schemaPart            `json:"additionalProperties"`
	Unevaluated *schemaPart            `json:"unevaluatedProperties"`
	Items       *schemaPart            `json:"items"`
	Unique      bool                   `json:"uniqueItems"`
	OneOf       []*schemaPart          `json:"oneOf"`
	AnyOf       []*schemaPart          `json:"anyOf"`
	AllOf       []*schemaPart          `json:"allOf"`
	Defs        map[string]*schemaPart `json:"$defs"`

	// never is the schema `false`.
	never bool
	// unknown is a word of the schema's language that this does not know.
	unknown string
}

// words are those that are known, and those that check nothing.
var words = strings.Fields(`$ref type enum pattern minimum maximum required properties patternProperties additionalProperties
unevaluatedProperties items uniqueItems oneOf anyOf allOf $defs $schema $id title description deprecated default format`)

// UnmarshalJSON reads true and false, too.
func (s *schemaPart) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("false")) {
		s.never = true
		return nil
	}
	if bytes.Equal(b, []byte("true")) {
		return nil
	}
	type plain schemaPart
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return err
	}
	for k := range keys {
		if !slices.Contains(words, k) {
			s.unknown = k
		}
	}
	return nil
}

// oneOrMany is "string" or ["string", "null"].
type oneOrMany []string

// UnmarshalJSON reads both.
func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(o))
	}
	var one string
	err := json.Unmarshal(b, &one)
	*o = oneOrMany{one}
	return err
}

func readSchema() (*schemaPart, error) {
	var root schemaPart
	if err := json.Unmarshal([]byte(schema.Schema), &root); err != nil {
		return nil, fmt.Errorf("read the schema of Compose files: %w", err)
	}
	return &root, nil
}

// named is what a reference means; nil for none.
func (s *schemaPart) named(ref string) *schemaPart {
	if ref == "" {
		return nil
	}
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if d := s.Defs[name]; ok && d != nil {
		return d
	}
	return &schemaPart{unknown: ref}
}

// accepts tells whether a document is as the schema wants it. It may say no where the answer is yes, never the other way round.
func accepts(root *schemaPart, document any) bool {
	c := &checker{root: root, patterns: map[string]*regexp.Regexp{}}
	ok, _ := c.check(root, document)
	return ok
}

type checker struct {
	root     *schemaPart
	patterns map[string]*regexp.Regexp
}

// check returns also the keys that have been looked at.
func (c *checker) check(s *schemaPart, v any) (ok bool, seen map[string]bool) {
	if s.never || s.unknown != "" || !s.fits(v) || !c.inRange(s, v) {
		return false, nil
	}
	seen = map[string]bool{}
	all := s.AllOf
	if d := c.root.named(s.Ref); d != nil {
		all = append([]*schemaPart{d}, all...)
	}
	for _, a := range all {
		ok, more := c.check(a, v)
		if !ok {
			return false, nil
		}
		maps.Copy(seen, more)
	}
	if ok := c.choices(s, v, seen); !ok {
		return false, nil
	}
	switch v := v.(type) {
	case map[string]any:
		return c.mapping(s, v, seen), seen
	case []any:
		return c.list(s, v), seen
	}
	return true, seen
}

// choices are oneOf, of which exactly one fits, and anyOf.
func (c *checker) choices(s *schemaPart, v any, seen map[string]bool) bool {
	for _, group := range []struct {
		parts []*schemaPart
		most  int
	}{{s.OneOf, 1}, {s.AnyOf, math.MaxInt}} {
		n := 0
		for _, p := range group.parts {
			if ok, more := c.check(p, v); ok {
				n++
				maps.Copy(seen, more)
			}
		}
		if len(group.parts) > 0 && (n == 0 || n > group.most) {
			return false
		}
	}
	return true
}

// fits is about the type.
func (s *schemaPart) fits(v any) bool {
	if len(s.Type) == 0 {
		return true
	}
	var kinds []string
	switch v := v.(type) {
	case nil:
		kinds = []string{"null"}
	case bool:
		kinds = []string{"boolean"}
	case string:
		kinds = []string{"string"}
	case float64:
		kinds = []string{"number"}
		if v == math.Trunc(v) {
			kinds = append(kinds, "integer")
		}
	case []any:
		kinds = []string{"array"}
	case map[string]any:
		kinds = []string{"object"}
	}
	return slices.ContainsFunc(kinds, func(k string) bool { return slices.Contains(s.Type, k) })
}

// inRange is about single values.
func (c *checker) inRange(s *schemaPart, v any) bool {
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(e any) bool { return reflect.DeepEqual(e, v) }) {
		return false
	}
	switch v := v.(type) {
	case float64:
		return (s.Minimum == nil || v >= *s.Minimum) && (s.Maximum == nil || v <= *s.Maximum)
	case string:
		return utf8.ValidString(v) && (s.Pattern == "" || c.matches(s.Pattern, v))
	}
	return true
}

func (c *checker) matches(pattern, v string) bool {
	re, ok := c.patterns[pattern]
	if !ok {
		re, _ = regexp.Compile(pattern) // A pattern that Go does not know matches nothing here.
		c.patterns[pattern] = re
	}
	return re != nil && re.MatchString(v)
}

func (c *checker) mapping(s *schemaPart, m map[string]any, seen map[string]bool) bool {
	for _, k := range s.Required {
		if _, ok := m[k]; !ok {
			return false
		}
	}
	for k, v := range m {
		known := false
		if p, ok := s.Properties[k]; ok {
			known = true
			if ok, _ := c.check(p, v); !ok {
				return false
			}
		}
		for pattern, p := range s.Patterns {
			if !c.matches(pattern, k) {
				continue
			}
			known = true
			if ok, _ := c.check(p, v); !ok {
				return false
			}
		}
		if !known && s.Additional != nil {
			if ok, _ := c.check(s.Additional, v); !ok {
				return false
			}
			known = true
		}
		if known {
			seen[k] = true
		} else if !seen[k] && s.Unevaluated != nil {
			if ok, _ := c.check(s.Unevaluated, v); !ok {
				return false
			}
		}
	}
	return true
}

func (c *checker) list(s *schemaPart, l []any) bool {
	for i, v := range l {
		if s.Items != nil {
			if ok, _ := c.check(s.Items, v); !ok {
				return false
			}
		}
		if s.Unique && slices.ContainsFunc(l[:i], func(o any) bool { return reflect.DeepEqual(o, v) }) {
			return false
		}
	}
	return true
}
