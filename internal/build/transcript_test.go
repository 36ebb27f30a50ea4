package build

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// seen are the vertices that progress has shown since the last call and whose names begin with a prefix, by their digests,
// and the warnings.
func (w *world) seen(prefixes ...string) (vertices map[string][]string, warnings []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	vertices = map[string][]string{}
	for _, e := range w.events {
		for _, v := range e.Vertexes {
			for _, p := range prefixes {
				if d := v.Digest.String(); strings.HasPrefix(v.Name, p) && !slices.Contains(vertices[p], d) {
					vertices[p] = append(vertices[p], d)
				}
			}
		}
		for _, one := range e.Warnings {
			warnings = append(warnings, string(one.Short))
		}
	}
	w.events = nil
	return vertices, warnings
}

// written says whether a frontend's run was written down: each is a transcript of its own.
func (w *world) written(before map[*transcript]bool) (ran bool, now map[*transcript]bool) {
	now = map[*transcript]bool{}
	w.b.transcripts.Each(func(t *transcript) { now[t] = true })
	return !maps.Equal(before, now), now
}

// image builds an image that others can be built on.
func (w *world) image(name, dockerfile string) {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		w.t.Fatal(err)
	}
	_, err := w.b.Solve(w.ctx(), Request{
		Frontend: "dockerfile.v0", Session: &Place{Dirs: map[string]string{"context": dir, "dockerfile": dir}},
		Exports: []Export{{Type: "image", Attrs: map[string]string{"name": name}}},
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestFrontendIsSpared: the frontend runs when something that it asks for has changed, and not otherwise.
func TestFrontendIsSpared(t *testing.T) {
	const (
		definition, context, metadata = "[internal] load build definition", "[internal] load build context", "[internal] load metadata"
		base                          = "example.com/base:1"
	)
	w := newWorld(t)
	w.image(base, "FROM scratch\nENV BASE=1\n")
	w.write("a.txt", "1")
	text := "FROM " + base + " as b\nARG A=0\nENV A=$A\nCOPY a.txt /\n"
	ignore := filepath.Join(w.dir, ".dockerignore")
	var attrs map[string]string
	_, kept := w.written(nil)
	for _, step := range []struct {
		name   string
		change func() error
		spared bool
		env    string
	}{
		{"the first", func() error { return nil }, false, "BASE=1 A=0"},
		{"nothing", func() error { return nil }, true, "BASE=1 A=0"},
		{"a copied file", func() error { w.write("a.txt", "2"); return nil }, true, "BASE=1 A=0"},
		{"the Dockerfile", func() error { text = strings.Replace(text, "A=0", "A=2", 1); return nil }, false, "BASE=1 A=2"},
		{"nothing again", func() error { return nil }, true, "BASE=1 A=2"},
		{"a new .dockerignore", func() error { return os.WriteFile(ignore, []byte("x"), 0o600) }, false, "BASE=1 A=2"},
		{"its time", func() error { return os.Chtimes(ignore, time.Time{}, time.Unix(1, 0)) }, true, "BASE=1 A=2"},
		{"its text", func() error { return os.WriteFile(ignore, []byte("y"), 0o600) }, false, "BASE=1 A=2"},
		{"no .dockerignore", func() error { return os.Remove(ignore) }, false, "BASE=1 A=2"},
		{"the base", func() error {
			w.image(base, "FROM scratch\nENV BASE=2\n")
			_, kept = w.written(nil)
			return nil
		}, false, "BASE=2 A=2"},
		{"an argument", func() error { attrs = map[string]string{"build-arg:A": "3"}; return nil }, false, "BASE=2 A=3"},
		{"no argument", func() error { attrs = nil; return nil }, true, "BASE=2 A=2"},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		w.seen()
		r, err := w.dockerfile(text, attrs)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		vertices, warnings := w.seen(definition, context, metadata)
		for _, name := range []string{definition, context, metadata} {
			if len(vertices[name]) != 1 {
				t.Errorf("%s: %q is shown as %v", step.name, name, vertices[name])
			}
		}
		var ran bool
		if ran, kept = w.written(kept); ran == step.spared {
			t.Errorf("%s: the frontend ran: %v", step.name, ran)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0], "FromAsCasing") {
			t.Errorf("%s: warnings %q", step.name, warnings)
		}
		var img dockerspec.DockerOCIImage
		if err := json.Unmarshal(r.Metadata["containerimage.config"], &img); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(img.Config.Env, " "); !strings.HasSuffix(got, step.env) {
			t.Errorf("%s: environment %q, want %q", step.name, got, step.env)
		}
	}
}

// TestTranscriptsAreShared: builds side by side take the same transcript.
func TestTranscriptsAreShared(t *testing.T) {
	w := newWorld(t)
	w.write("a.txt", "1")
	text := "FROM scratch\nCOPY a.txt /\nRUN [\"one\"]\nRUN [\"two\"]\n"
	if _, err := w.dockerfile(text, nil); err != nil {
		t.Fatal(err)
	}
	w.took()
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			if _, err := w.b.Solve(w.ctx(), Request{Frontend: "dockerfile.v0", Session: session{w}}, func(*client.SolveStatus) {}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if got := w.took(); got != "" {
		t.Errorf("ran %q", got)
	}
}

// TestTranscriptsAreBounded: a client with other options at each build does not fill the memory.
func TestTranscriptsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 3 * maxTranscripts {
		w.b.transcripts.Put(taskKey{byte(i)}, new(transcript))
		w.b.transcripts.Put(taskKey{byte(i)}, new(transcript))
	}
	_, kept := w.written(nil)
	if _, ok := w.b.transcripts.Get(taskKey{3*maxTranscripts - 1}); len(kept) != maxTranscripts || !ok {
		t.Errorf("%d are kept", len(kept))
	}
}
