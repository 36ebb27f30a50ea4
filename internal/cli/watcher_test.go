package cli

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/client"
)

func (d *fakeDaemon) client(t *testing.T) *client.Client {
	t.Helper()
	e, err := client.FindEndpoint(d.host, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return client.New(e, client.Options{})
}

// dies answers a wait's head and breaks the connection.
func dies(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(200)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func refuses(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(409)
	_, _ = w.Write([]byte(`{"message":"not now"}`))
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

func TestWatcher(t *testing.T) {
	for _, c := range []struct {
		name    string
		removed bool
		answers []http.HandlerFunc // the last one again and again
		code    int
		err     string
		asked   string // the conditions
	}{
		{"one daemon", false, []http.HandlerFunc{says(`{"StatusCode":3}`)}, 3, "", "next-exit"},
		{"the next daemon knows", true, []http.HandlerFunc{dies, says(`{"StatusCode":4}`)}, 4, "", "removed removed"},
		{"the one after it", false, []http.HandlerFunc{dies, dies, dies, says(`{"StatusCode":5}`)}, 5, "", "next-exit not-running not-running not-running"},
		{"the next daemon refuses", true, []http.HandlerFunc{dies, refuses}, exitUsage, "not now", "removed removed"},
		{"refused", false, []http.HandlerFunc{refuses}, exitUsage, "not now", "next-exit"},
		{"an end with an error", false, []http.HandlerFunc{says(`{"StatusCode":1,"Error":{"Message":"lost it"}}`)}, exitUsage, "lost it", "next-exit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFakeDaemon(t)
			var n atomic.Int64
			d.on("POST /containers/c1/wait", func(w http.ResponseWriter, r *http.Request) {
				i := min(int(n.Add(1)), len(c.answers)) - 1
				c.answers[i](w, r)
			})
			code, err := watch(d.client(t), "c1", c.removed).result()
			if err == nil && (code != c.code || c.err != "") || err != nil && (c.err == "" || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("code %d, error %v", code, err)
			}
			var asked []string
			for _, r := range d.seen("POST /containers/c1/wait") {
				asked = append(asked, strings.TrimPrefix(r.query, "condition="))
			}
			if got := strings.Join(asked, " "); got != c.asked {
				t.Errorf("asked for %q, want %q", got, c.asked)
			}
		})
	}
}

// The next daemon is asked as soon as the first one goes, not when the output has ended.
func TestWatcherAsksAtOnce(t *testing.T) {
	d := newFakeDaemon(t)
	again := make(chan struct{})
	var n atomic.Int64
	d.on("POST /containers/c1/wait", func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			dies(w, r)
		}
		close(again)
		says(`{"StatusCode":6}`)(w, r)
	})
	w := watch(d.client(t), "c1", true)
	if err := w.begun(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-again:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was asked again")
	}
	if code, err := w.result(); code != 6 || err != nil {
		t.Errorf("code %d, error %v", code, err)
	}
}

// Whoever wants only the first daemon's answer does not wait for another's.
func TestWatcherOnce(t *testing.T) {
	d := newFakeDaemon(t)
	var n atomic.Int64
	d.on("POST /containers/c1/wait", func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			dies(w, r)
		}
		<-r.Context().Done()
	})
	cl := d.client(t)
	watch(cl, "c1", true).once()
}

// A start whose answer was lost with its daemon: the next one knows.
func TestStartWithoutAnAnswer(t *testing.T) {
	running, created := says(`{"State":{"Status":"running"}}`), says(`{"State":{"Status":"created"}}`)
	missing := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(404)
		_, _ = w.Write([]byte(`{"message":"No such container: c1"}`))
	}
	breaks := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		name           string
		removed        bool
		start, inspect http.HandlerFunc
		started, asks  bool
	}{
		{"it runs", false, breaks, running, true, true},
		{"it does not", false, breaks, created, false, true},
		{"it is gone", false, breaks, missing, false, true},
		{"it was to go", true, breaks, missing, true, true},
		{"answered", false, refuses, running, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFakeDaemon(t)
			d.on("POST /containers/c1/start", c.start)
			d.on("GET /containers/c1/json", c.inspect)
			d.on("POST /containers/c1/wait", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			w := watch(d.client(t), "c1", c.removed)
			if err := w.start(); (err == nil) != c.started {
				t.Errorf("error %v", err)
			}
			if asked := len(d.seen("GET /containers/c1/json")) > 0; asked != c.asks {
				t.Errorf("asked the next daemon: %v", asked)
			}
		})
	}
}
