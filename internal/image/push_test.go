package image

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPushesSideBySide: pushes of several tags of one image, as composed projects do them, send each blob and each manifest that
// their index names once. Docker's registry writes anew where something is when it comes again, and meanwhile refuses what names it.
func TestPushesSideBySide(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	o := f.twoLayers(t)
	o.Index, o.Names = true, nil
	o.Images[0].Attestations = []Attestation{{PredicateType: "https://slsa.dev/provenance/v0.2", Predicate: []byte(`{"a":1}`), Subjects: []string{"pkg:docker/x@1"}}}
	for i := range 4 {
		o.Names = append(o.Names, fmt.Sprintf("%s/app:%d", srv.host, i))
	}
	if _, err := f.Build(ctx, o); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	sent := map[string]int{}
	srv.handler = func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		what := r.URL.Query().Get("digest")
		if _, ref, ok := strings.Cut(r.URL.Path, "/manifests/"); ok && r.Method == http.MethodPut {
			what = ref
		}
		if what != "" {
			mu.Lock()
			sent[what]++
			mu.Unlock()
			time.Sleep(20 * time.Millisecond) // Another push has the time to ask whether it is there.
		}
		next.ServeHTTP(w, r)
	}
	var g sync.WaitGroup
	for _, name := range o.Names {
		g.Go(func() {
			if err := f.Push(ctx, name, PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	const all = 3 + 1 + 1 + 3 + 4 // layers, configuration, manifest; the statement, its configuration and manifest; tags
	if len(sent) != all {
		t.Errorf("%d things were sent, want %d: %v", len(sent), all, sent)
	}
	for d, n := range sent {
		if n != 1 {
			t.Errorf("%s was sent %d times", d, n)
		}
	}
}
