package buildkit

import (
	"encoding/json"
	"net/http"
	"sync"
)

// messages is docker's stream of JSON messages.
type messages struct {
	w http.ResponseWriter
	// quiet is docker's -q: nothing but the image's id is written.
	quiet bool

	mu    sync.Mutex // guards began and the writer
	began bool
}

// message is one of them. A []byte in Aux becomes base64, as docker has it.
type message struct {
	ID     string         `json:"id,omitempty"`
	Stream string         `json:"stream,omitempty"`
	Aux    any            `json:"aux,omitempty"`
	Error  string         `json:"error,omitempty"`
	Detail *messageDetail `json:"errorDetail,omitempty"`
}

type messageDetail struct {
	Message string `json:"message"`
}

func (m *messages) begun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.began
}

func (m *messages) aux(id string, v any) {
	if !m.quiet {
		m.write(message{ID: id, Aux: v})
	}
}

// image tells the image's id.
func (m *messages) image(id string) {
	if m.quiet {
		m.write(message{Stream: id + "\n"})
		return
	}
	m.aux(idImage, struct{ ID string }{id})
}

func (m *messages) fail(err error) {
	m.write(message{Error: err.Error(), Detail: &messageDetail{Message: err.Error()}})
}

func (m *messages) write(v message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.began {
		m.began = true
		m.w.Header().Set("Content-Type", "application/json")
	}
	if json.NewEncoder(m.w).Encode(v) == nil {
		_ = http.NewResponseController(m.w).Flush() // A client that has gone ends the build by its context.
	}
}
