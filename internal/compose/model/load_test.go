package model

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/fault"
)

func load(t *testing.T, text string, o Options, services ...string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Files = []string{file}
	_, err := o.Load(t.Context(), services...)
	return err
}

func TestFaultsHaveAPlace(t *testing.T) {
	for _, test := range []struct {
		name, text, cause, try string
	}{
		{"unknown key", "services:\n  web:\n    imge: x\n", `compose.yaml:3: services.web has no key "imge"`, "did you mean image?"},
		{"unknown key deep", "services:\n  web:\n    image: x\n    healthcheck:\n      tests: a\n", `compose.yaml:5: services.web.healthcheck has no key "tests"`, "did you mean test?"},
		{"unknown section", "servces:\n  web: {image: x}\n", `compose.yaml:1: the file has no key "servces"`, "did you mean services?"},
		{"in build", "services:\n  web:\n    build:\n      contxt: .\n", `compose.yaml:4: services.web.build has no key "contxt"`, "did you mean context?"},
		{"wrong type", "services:\n  web:\n    image: x\n    ports: 80\n", "compose.yaml:4: services.web.ports", ""},
		{"undefined network", "services:\n  web:\n    image: x\n    networks: [bck]\nnetworks: {back: {}}\n", `compose.yaml:2: service "web" refers to undefined network bck`, "did you mean back?"},
		{"undefined volume", "services:\n  web:\n    image: x\n    volumes: [data:/x]\n", "refers to undefined volume data", "add it under volumes: at the end of the file"},
		{"undefined dependency", "services:\n  web:\n    image: x\n    depends_on: [dbb]\n  db: {image: x}\n", `depends on undefined service "dbb"`, "did you mean db?"},
		{"no image", "services:\n  web:\n    ports: ['80']\n", `compose.yaml:2: service "web" has neither an image nor a build context`, "image: NAME, or build: DIRECTORY"},
		{"size", "services:\n  web:\n    image: x\n    mem_limit: lots\n", `compose.yaml:4: 'services[web].mem_limit' invalid size: 'lots'`, ""},
		{"tab", "services:\n  web:\n   image: x\n\tb: 1\n", "compose.yaml: ", "indent with spaces: YAML has no tabs"},
		{"cycle", "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n", "dependency cycle detected: ", "take one of these depends_on away"},
		{"no environment file", "services:\n  web: {image: x, env_file: no.env}\n", "no.env not found", "make that file, or env_file: [{path: FILE, required: false}]"},
		{"address", "services:\n  web: {image: x, ports: ['1:2:3:4']}\n", "compose.yaml: invalid IP address: 1:2", ""},
		{"syntax", "services:\n  web: {image: x\n", "line 2", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := load(t, test.text, Options{})
			f, ok := fault.As(err)
			if !ok {
				t.Fatalf("no fault: %v", err)
			}
			if !strings.Contains(f.What, test.cause) || f.Try != test.try || strings.Contains(f.What, "\n") {
				t.Errorf("what %q, try %q; want %q, %q", f.What, f.Try, test.cause, test.try)
			}
		})
	}
}

func TestNamedFileIsMissing(t *testing.T) {
	o := Options{Files: []string{filepath.Join(t.TempDir(), "no.yaml")}}
	_, err := o.Load(t.Context())
	f, ok := fault.As(err)
	if !ok || f.Code != "compose-no-file" || !strings.HasSuffix(f.What, "no.yaml") {
		t.Fatalf("got %v", err)
	}
}

func TestUnknownService(t *testing.T) {
	err := load(t, "services: {web: {image: x}, database: {image: x}}", Options{}, "databse")
	f, ok := fault.As(err)
	if !ok || f.Try != "did you mean database?" {
		t.Fatalf("got %v", err)
	}
}
