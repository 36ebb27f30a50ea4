package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// dockerfile builds one, in the world's directory.
func (w *world) dockerfile(text string, attrs map[string]string) (*Response, error) {
	if err := os.WriteFile(filepath.Join(w.dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	return w.b.Solve(w.ctx(), Request{Frontend: "dockerfile.v0", Attrs: attrs, Session: session{w}}, func(s *client.SolveStatus) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, s)
	})
}

func sixty() string {
	var b strings.Builder
	b.WriteString("# syntax=docker/dockerfile:1\nFROM scratch\n")
	for i := range 59 {
		fmt.Fprintf(&b, "RUN [\"step\", \"%d\"]\n", i)
	}
	return b.String()
}

func TestDockerfile(t *testing.T) {
	w := newWorld(t)
	text := "FROM scratch AS base\nRUN [\"one\"]\nFROM base AS unused\nRUN [\"never\"]\nFROM base\nCOPY a.txt /\nRUN [\"two\"]\n"
	w.write("a.txt", "1")
	r, err := w.dockerfile(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.took(); got != "copy /a.txt /, one, two" {
		t.Errorf("ran %q", got)
	}
	if want := "0 of 3 steps cached; step 1 of base ran because it was never built here"; r.Summary.Line != want {
		t.Errorf("%q, want %q", r.Summary.Line, want)
	}
	w.write("a.txt", "2")
	if r, err = w.dockerfile(text, nil); err != nil {
		t.Fatal(err)
	}
	if want := "1 of 3 steps cached; step 1 of stage-2 ran because a.txt changed"; r.Summary.Line != want {
		t.Errorf("%q, want %q", r.Summary.Line, want)
	}
}

func TestDockerfileMistakes(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		attrs      map[string]string
		want       string
		line       int
	}{
		{"instruction", "FROM scratch\nRUNN a\n", nil, "unknown instruction: RUNN (did you mean RUN?)", 2},
		{"target", "FROM scratch AS build\n", map[string]string{"target": "biuld"}, `target stage "biuld" could not be found (did you mean build?)`, 0},
		{"stage", "FROM scratch AS build\nRUN [\"a\"]\nFROM scratch\nCOPY --from=biuld /a /a\n", nil, "build", 0},
		{"later stage", "FROM late AS x\nFROM scratch AS late\nFROM x\n", nil, "comes later", 0},
		{"flag", "FROM scratch\nRUN --mout=type=cache,target=/x a\n", nil, "unknown flag: --mout (did you mean mount?)", 2},
		{"cycle", "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n", nil, "circular dependency detected", 4},
		{"cycle of three", "FROM scratch AS d\nCOPY --from=c /x /\nFROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nRUN --mount=from=c,target=/m true\nFROM scratch AS c\nCOPY --from=a /x /\n", nil, "circular dependency detected", 8},
		{"other frontend", "# syntax=example.com/Own:1\nFROM scratch\n", nil, "example.com/Own:1", 1},
		{"empty", "", nil, "the Dockerfile", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.dockerfile(tc.text, tc.attrs)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %q in it", err, tc.want)
			}
			if tc.line == 0 {
				return
			}
			s := bkerrdefs.Sources(err)
			if len(s) != 1 || len(s[0].Ranges) == 0 || int(s[0].Ranges[0].Start.Line) != tc.line {
				t.Errorf("sources %v, want line %d", s, tc.line)
			}
		})
	}
}

func TestSubrequests(t *testing.T) {
	w := newWorld(t)
	r, err := w.dockerfile("from scratch as Base\nCOPY --from=Base a /\n", map[string]string{"requestid": "frontend.lint", "frontend.caps": "moby.buildkit.frontend.subrequests"})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Metadata["result.json"]); !strings.Contains(got, "StageNameCasing") {
		t.Errorf("lint: %s", got)
	}
	r, err = w.dockerfile("FROM scratch AS a\nFROM scratch AS b\n", map[string]string{"requestid": "frontend.targets"})
	if err != nil || !strings.Contains(string(r.Metadata["result.json"]), `"name": "a"`) {
		t.Errorf("targets: %s, %v", r.Metadata["result.json"], err)
	}
	if got := w.took(); got != "" {
		t.Errorf("ran %q", got)
	}
}

func TestEntitlements(t *testing.T) {
	w := newWorld(t)
	_, err := w.dockerfile("FROM scratch\nRUN --security=insecure [\"a\"]\n", nil)
	if f, ok := fault.As(err); !ok || f.Code != "not-granted" {
		t.Errorf("%v", err)
	}
	var v *bkerrdefs.VertexError
	if !errors.As(err, &v) {
		t.Errorf("no vertex in %v", err)
	}
}

// BenchmarkSixtyCachedSteps is the solver's and the frontend's part of a build in which nothing changed.
func BenchmarkSixtyCachedSteps(b *testing.B) {
	w := newWorld(b)
	text := sixty()
	if _, err := w.dockerfile(text, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := w.dockerfile(text, nil); err != nil {
			b.Fatal(err)
		}
	}
	if len(w.ran) != 59 {
		b.Errorf("%d steps ran", len(w.ran))
	}
}
