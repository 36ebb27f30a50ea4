package image

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPushesSideBySide: pushes of several tags of one image, as composed projects do them, send each blob once. Docker's
// registry writes anew where a blob is when it comes again, and meanwhile refuses manifests that name it.
func TestPushesSideBySide(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	f.commit(t, srv.host+"/app:0", "", nil, map[string]string{"a": noise(t, 100_000)})
	var mu sync.Mutex
	sent := map[string]int{}
	srv.handler = func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if d := r.URL.Query().Get("digest"); d != "" && strings.Contains(r.URL.Path, "/blobs/uploads/") {
			mu.Lock()
			sent[d]++
			mu.Unlock()
			time.Sleep(20 * time.Millisecond) // Another push has the time to ask whether it is there.
		}
		next.ServeHTTP(w, r)
	}
	var g sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprintf("%s/app:%d", srv.host, i)
		if i > 0 {
			if err := f.Tag(ctx, srv.host+"/app:0", name); err != nil {
				t.Fatal(err)
			}
		}
		g.Go(func() {
			if err := f.Push(ctx, name, PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if len(sent) != 2 {
		t.Errorf("want a layer and a configuration, not %v", sent)
	}
	for d, n := range sent {
		if n != 1 {
			t.Errorf("%s was sent %d times", d, n)
		}
	}
}
