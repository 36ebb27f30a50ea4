package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/docker/go-units"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/image"
)

// progress writes docker's stream of JSON messages. An error before the first message becomes a proper HTTP answer, one
// after it the stream's last message.
type progress struct {
	mu    sync.Mutex // guards w and began: layers report in parallel
	w     http.ResponseWriter
	began bool
}

func newProgress(w http.ResponseWriter) *progress { return &progress{w: w} }

// progressLine is one message, with the fields of all API versions.
type progressLine struct {
	Stream         string          `json:"stream,omitempty"`
	Status         string          `json:"status,omitempty"`
	ProgressDetail *progressDetail `json:"progressDetail,omitempty"`
	Progress       string          `json:"progress,omitempty"`
	ID             string          `json:"id,omitempty"`
	Aux            any             `json:"aux,omitempty"`
	ErrorDetail    *progressError  `json:"errorDetail,omitempty"`
	Error          string          `json:"error,omitempty"`
}

// progressError is a failure in the middle of a stream. Docker's clients read "code" as a number there, so the fault's
// own code has another name.
type progressError struct {
	Message string `json:"message"`
	Fault   string `json:"fault,omitempty"`
	What    string `json:"what,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Try     string `json:"try,omitempty"`
}

type progressDetail struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

func (p *progress) report(m image.Progress) {
	line := progressLine{Status: m.Status, ID: m.ID, Aux: m.Aux}
	if m.ID != "" {
		line.ProgressDetail = &progressDetail{Current: m.Current, Total: m.Total}
		line.Progress = bar(m.Current, m.Total)
	}
	p.write(line)
}

func (p *progress) stream(text string) { p.write(progressLine{Stream: text}) }

func (p *progress) write(line any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.began {
		p.began = true
		p.w.Header().Set("Content-Type", "application/json")
	}
	raw, err := json.Marshal(line)
	if err != nil {
		return // Aux is plain data.
	}
	if _, err := p.w.Write(append(raw, "\r\n"...)); err == nil { // Docker's lines end so.
		_ = http.NewResponseController(p.w).Flush() // The work goes on when its client has gone; its context says so.
	}
}

// finish ends the stream; the error is returned if it can still be a proper answer.
func (p *progress) finish(err error) error {
	if err == nil {
		return nil
	}
	p.mu.Lock()
	began := p.began
	p.mu.Unlock()
	if !began {
		return err
	}
	told := fault.PartsOf(err)
	detail := &progressError{Message: told.Message, Fault: told.Code, What: told.What, Cause: told.Cause, Try: told.Try}
	p.write(progressLine{ErrorDetail: detail, Error: told.Message})
	return nil
}

// bar is the progress bar that API versions before 1.48 promise: old clients print it as it is.
func bar(current, total int64) string {
	if current <= 0 || total <= 0 {
		return ""
	}
	const width = 50
	done := int(min(current, total) * width / total)
	return "[" + strings.Repeat("=", done) + ">" + strings.Repeat(" ", width-done) + "]  " +
		units.HumanSize(float64(current)) + "/" + units.HumanSize(float64(total))
}
