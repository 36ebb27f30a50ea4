package model

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// samples are files with everything in them.
func samples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../convert/testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no samples", err)
	}
	return files
}

// TestQuickIsTheSame reads files in both ways.
func TestQuickIsTheSame(t *testing.T) {
	t.Setenv("KIST_TEST_SECRET", "hunter2")
	for _, file := range samples(t) {
		o := &Options{Files: []string{file}, Profiles: []string{"*"}}
		quick, err := o.loadQuickly(t.Context())
		if err != nil {
			t.Fatalf("%s is not read quickly: %v", file, err)
		}
		po, err := o.options()
		if err != nil {
			t.Fatal(err)
		}
		slow, err := po.LoadProject(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a, err1 := quick.MarshalYAML()
		b, err2 := slow.MarshalYAML()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if d := cmp.Diff(string(b), string(a)); d != "" {
			t.Errorf("%s (-usual +quick):\n%s", file, d)
		}
		for name := range slow.Services {
			one, err1 := ServiceHash(quick.Services[name])
			two, err2 := ServiceHash(slow.Services[name])
			if one != two || err1 != nil || err2 != nil {
				t.Errorf("%s: hashes of %s differ", file, name)
			}
		}
	}
}

// FuzzAccepts holds that what is accepted here is accepted by the library.
func FuzzAccepts(f *testing.F) {
	for _, text := range []string{
		"services: {a: {image: x}}", "services: {a: {image: x, ports: [80, '80:80']}}", "services: {a: {imagee: x}}", "services: {a: {image: 7}}",
		"services: {a: {image: x, cpus: -1}}", "services: {a: {image: x, ports: [80, 80]}}", "services: {'a b': {image: x}}", "x-a: 1", "name: 'A b'",
		"services: {a: {build: {context: ., shm_size: true}}}", "services: {a: {command: [1]}}", "services: {a: {depends_on: {b: {condition: x}}}}",
		"services: {a: {healthcheck: {retries: 1.5, x-y: 1}}}", "services: {a: {deploy: {mode: x, resources: {limits: {cpus: 1}}}}}", "services: []", "[]",
		"volumes: {a: null, b: {external: {name: x}}}", "networks: {a: {ipam: {config: [{subnet: 1}]}}}", "secrets: {a: {file: 1}}", "services: {a: {ulimits: {nofile: {soft: 1}}}}",
		"services: {a: {env_file: [{path: x, required: maybe}], gpus: all}}", "services: {a: {develop: {watch: [{path: x}]}}}", "include: [a, {path: b, nonsense: c}]",
	} {
		f.Add([]byte(text))
	}
	for _, file := range samples(f) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	root, err := readSchema()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var v map[string]any
		if yaml.Unmarshal(text, &v) != nil || v == nil {
			return
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return // Keys that are no text.
		}
		var plain map[string]any
		if err := json.Unmarshal(raw, &plain); err != nil || bytes.Equal(raw, []byte("null")) {
			return
		}
		if !accepts(root, plain) {
			return
		}
		if err := schema.Validate(plain); err != nil {
			t.Errorf("accepted, but %v:\n%s", err, raw)
		}
	})
}

// TestAccepts makes sure that usual files are read quickly, and that mistakes are not.
func TestAccepts(t *testing.T) {
	root, err := readSchema()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		`{"services": {"a": {"image": "x", "ports": ["80:80"], "environment": {"A": 1}, "depends_on": ["b"]}}, "x-own": {}}`: true,
		`{"services": {"a": {"image": "x", "nonsense": 1}}}`:                                                                 false,
		`{"services": {"a": {"build": {"nonsense": 1}}}}`:                                                                    false,
		`{"services": {"a": {"cpus": []}}}`:                                                                                  false,
		`{"nonsense": 1}`:                                                                                                    false,
		`{"services": {"a": {"develop": {"watch": [{}]}}}}`:                                                                  false,
		`{"services": {"a": {"image": "x", "ports": [true]}}}`:                                                               false,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got := accepts(root, v); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
