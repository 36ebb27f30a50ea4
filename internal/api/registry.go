package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/serve"
	"github.com/kistdev/kist/internal/servemsg"
)

// maxServeRequest bounds the JSON that asks for a registry: certificates and a list of users are in it.
const maxServeRequest = 16 << 20

func (s *Server) routeRegistry() {
	// Not docker's: the images here as a registry, for as long as the request lasts.
	s.handle("POST /kist/registry/serve", s.registryServe)
}

func (s *Server) registryServe(w http.ResponseWriter, r *request) error {
	var req servemsg.Request
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxServeRequest)).Decode(&req); err != nil {
		return fmt.Errorf("invalid JSON in the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	out := &registryLines{w: w, lines: make(chan servemsg.Line, 64)}
	server, err := serve.Listen(s.Images, serve.Options{Request: req, Report: out.event})
	if err != nil {
		return err
	}
	list, err := s.Images.List(r.Context(), false, false, nil)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out.lines <- servemsg.Line{Address: server.Address(), Images: len(list)}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var writing sync.WaitGroup
	writing.Go(func() { out.write(ctx) })
	err = server.Run(ctx)
	cancel()
	writing.Wait()
	return err
}

// registryLines tells the client what happens; what it is too slow to hear is left out.
type registryLines struct {
	w     http.ResponseWriter
	lines chan servemsg.Line
}

func (l *registryLines) event(e servemsg.Event) {
	select {
	case l.lines <- servemsg.Line{Event: &e}:
	default:
	}
}

func (l *registryLines) write(ctx context.Context) {
	c, enc := http.NewResponseController(l.w), json.NewEncoder(l.w)
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-l.lines:
			if enc.Encode(line) != nil || c.Flush() != nil {
				return // The client is gone; its request ends.
			}
		}
	}
}
