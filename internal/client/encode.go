package client

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

// encode is json.Marshal without the fields of structs that are zero: a daemon takes a field that is not there for the
// same. Before json.Marshal writes a struct it studies every type below it, for a create request longer than all the
// rest of the command takes; here a field that is not set costs nothing.
func encode(v any) ([]byte, error) {
	if v == nil {
		return json.Marshal(v)
	}
	return appendValue(nil, reflect.ValueOf(v))
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if s, ok := plainStruct(v); ok {
		b, err := appendFields(append(b, '{'), s)
		return append(b, '}'), err
	}
	raw, err := json.Marshal(v.Interface())
	return append(b, raw...), err
}

// plainStruct returns the struct that v is or points to, unless it encodes itself.
func plainStruct(v reflect.Value) (reflect.Value, bool) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return v, false
	}
	p := reflect.PointerTo(v.Type())
	return v, !p.Implements(reflect.TypeFor[json.Marshaler]()) && !p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// appendFields appends what is between the braces.
func appendFields(b []byte, s reflect.Value) ([]byte, error) {
	for i := range s.NumField() {
		v := s.Field(i)
		if v.IsZero() {
			continue
		}
		f := s.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		var err error
		switch embedded, ok := plainStruct(v); {
		case f.Anonymous && name == "" && ok:
			b, err = appendFields(b, embedded)
		case !f.IsExported(), name == "-" && options == "", strings.Contains(options, "omitempty") && empty(v):
		default:
			b, err = appendField(b, name, f.Name, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendField(b []byte, name, fallback string, v reflect.Value) ([]byte, error) {
	if name == "" {
		name = fallback
	}
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return appendValue(append(b, '"', ':'), v)
}

// empty is what omitempty leaves out besides zero values.
func empty(v reflect.Value) bool {
	return (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0
}
