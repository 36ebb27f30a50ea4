package build

import (
	"context"
	"testing"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
)

// forget builds a state, and has the cache forget all of it but what it knows of some steps by their definitions, as if that
// came from another machine.
func (w *world) forget(st llb.State, but ...string) {
	w.t.Helper()
	def, err := st.Marshal(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	kept := map[digest.Digest]*record{}
	_, err = w.b.Build(w.ctx(), Request{Session: session{w}}, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		res, err := c.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB(), Evaluate: true})
		if err != nil {
			return nil, err
		}
		g, ok := c.(*gateway)
		if !ok {
			w.t.Fatalf("%T", c)
		}
		for _, s := range g.j.order {
			row, ok := w.cache.get(s.key)
			key, results := g.j.definitionOf(s)
			for _, name := range but {
				if ok && key != "" && s.v.name == name {
					defined := *row
					defined.Results = results
					kept[key] = &defined
				}
			}
		}
		return res, nil
	}, nil)
	if err != nil || len(kept) != len(but) {
		w.t.Fatalf("%d steps known by their definitions, want %d: %v", len(kept), len(but), err)
	}
	for key := range w.cache.snapshot() {
		w.cache.remove(key)
	}
	for key, row := range kept {
		w.cache.put(key, row)
	}
	w.took()
}

// TestDefinitions: a step that a cache knows by its definition spares what stands below it, but for what its layers lie on.
func TestDefinitions(t *testing.T) {
	one := run(llb.Scratch(), "[a 1/1]", "one")
	two := run(one, "[a 2/2]", "two")
	apart := llb.Scratch().File(llb.Copy(two, "/f", "/"), llb.WithCustomName("[b 1/1] COPY"))
	for _, tc := range []struct {
		name  string
		state llb.State
		known []string
		other bool // the first step makes something else now
		ran   string
	}{
		{"all known", two, []string{"[a 1/1] RUN one", "[a 2/2] RUN two"}, true, ""},
		{"what it lies on is made again", two, []string{"[a 2/2] RUN two"}, false, "one"},
		{"what it lies on comes out otherwise", two, []string{"[a 2/2] RUN two"}, true, "one, two"},
		{"what it is copied from is spared", apart, []string{"[b 1/1] COPY"}, true, ""},
		{"below it", apart, []string{"[a 2/2] RUN two"}, false, "copy /f /, one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			made := "first"
			w.play["one"] = func(context.Context) (string, error) { return made, nil }
			w.forget(tc.state, tc.known...)
			if tc.other {
				made = "second"
			}
			r := w.must(tc.state)
			if got := w.took(); got != tc.ran {
				t.Errorf("ran %q, want %q", got, tc.ran)
			}
			if tc.ran == "" && r.Summary.Cached != r.Summary.Steps {
				t.Errorf("%+v", r.Summary)
			}
		})
	}
}

// TestNoDefinition: what is to be made anew has none, nor what stands on it.
func TestNoDefinition(t *testing.T) {
	w := newWorld(t)
	st := run(run(llb.Scratch(), "[a 1/2]", "one", llb.IgnoreCache), "[a 2/2]", "two")
	w.must(st)
	if w.cache.hasDefined() {
		t.Error("definitions in a cache that nothing was imported to")
	}
	_, err := w.b.Build(w.ctx(), Request{Session: session{w}}, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		def, err := st.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		res, err := c.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB(), Evaluate: true})
		if g, ok := c.(*gateway); ok && err == nil {
			for _, s := range g.j.order {
				if key, _ := g.j.definitionOf(s); key != "" {
					t.Errorf("%s has %s", s.v.name, key)
				}
			}
		}
		return res, err
	}, nil)
	if err != nil {
		t.Error(err)
	}
}
