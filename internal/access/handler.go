package access

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"time"
)

// Handler passes requests on and notes them: those that may change something, or with all set every one.
func (l *Log) Handler(next http.Handler, all bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !all && !changes(r) {
			next.ServeHTTP(w, r)
			return
		}
		peer := peerOf(r.Context())
		if peer != nil {
			peer.identify()
		}
		begin := time.Now()
		seen := &witness{ResponseWriter: w}
		defer func() {
			c := Call{
				Time: begin, Method: r.Method, Path: r.URL.Path, Names: names(r), Status: seen.status, Seconds: time.Since(begin).Seconds(),
			}
			c.Socket, _ = r.Context().Value(socketKey{}).(string)
			if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
				c.Certificate = r.TLS.PeerCertificates[0].Subject.String()
			}
			if c.Status == 0 {
				c.Status = http.StatusOK
			}
			l.Note(peer, c)
		}()
		next.ServeHTTP(seen, r)
	})
}

// changes says whether a request may change something, by its method. Waiting does not, and attaching by WebSocket may.
func changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return strings.HasSuffix(r.URL.Path, "/attach/ws")
	case http.MethodPost:
		return !strings.HasSuffix(r.URL.Path, "/wait")
	}
	return true
}

// telling are the parameters that name what a request is about. Others may hold secrets: a build's arguments.
var telling = []string{"name", "fromImage", "fromSrc", "tag", "repo", "container", "t", "signal", "path", "force"}

// names picks them.
func names(r *http.Request) map[string]string {
	if r.URL.RawQuery == "" {
		return nil
	}
	query := r.URL.Query()
	var found map[string]string
	for _, key := range telling {
		if v := query.Get(key); v != "" {
			if found == nil {
				found = map[string]string{}
			}
			found[key] = v
		}
	}
	return found
}

// witness remembers the status.
type witness struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (w *witness) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Hijack notes that the connection was given away.
func (w *witness) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap serves http.ResponseController.
func (w *witness) Unwrap() http.ResponseWriter { return w.ResponseWriter }
