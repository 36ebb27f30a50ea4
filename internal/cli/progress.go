package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
)

// progressMessage is one line of a progress stream.
type progressMessage struct {
	Stream string `json:"stream"`
	Status string `json:"status"`
	ID     string `json:"id"`
	Detail struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	Failure *struct {
		Message string `json:"message"`
		What    string `json:"what"`
		Cause   string `json:"cause"`
		Try     string `json:"try"`
		// Fault is kist's code of it.
		Fault string `json:"fault"`
	} `json:"errorDetail"`
	Error string           `json:"error"`
	Aux   *json.RawMessage `json:"aux"`
}

// fail returns the failure that a message tells of.
func (m *progressMessage) fail() error {
	switch {
	case m.Failure != nil && m.Failure.Message != "":
		f := m.Failure
		return &client.Error{Parts: fault.Parts{Message: f.Message, Code: f.Fault, What: f.What, Cause: f.Cause, Try: f.Try}}
	case m.Error != "":
		return errors.New(m.Error)
	}
	return nil
}

// progressView shows a stream of progress.
type progressView struct {
	w     io.Writer
	style progressStyle
	// rows are the layers in order of their appearance; only with styleLive.
	rows  []string
	texts map[string]string
	// sizes and began give the totals.
	sizes map[string]int64
	began time.Time
	// starts are when each layer was first told of with bytes.
	starts map[string]time.Time
	cols   int
	last   time.Time
	// stream takes what the daemon prints as it is.
	stream io.Writer
	aux    func(json.RawMessage)
}

type progressStyle int

const (
	styleQuiet progressStyle = iota
	stylePlain
	styleLive
	styleJSON
)

// progressStyle chooses how progress is shown: as --progress says, or by what standard error is.
func (a *app) progressStyle(flag string, quiet bool) (progressStyle, error) {
	switch {
	case quiet || flag == "quiet":
		return styleQuiet, nil
	case flag == "plain":
		return stylePlain, nil
	case flag == "json":
		return styleJSON, nil
	case flag != "" && flag != "auto":
		return styleQuiet, fmt.Errorf("invalid --progress %q: must be auto, plain, json or quiet", flag)
	case a.lively(a.err):
		return styleLive, nil
	}
	return stylePlain, nil
}

func (a *app) newProgress(style progressStyle) *progressView {
	v := &progressView{w: a.err, style: style, texts: map[string]string{}, sizes: map[string]int64{}, starts: map[string]time.Time{}, began: time.Now(), cols: 80, stream: a.out}
	if _, cols, ok := terminalSize(a.err); ok {
		v.cols = cols
	}
	return v
}

// show follows a stream to its end and returns the failure it tells of.
func (v *progressView) show(body io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(body, 16<<10))
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err == io.EOF {
			return nil
		} else if err != nil {
			return lostDaemon(fmt.Errorf("read the daemon's progress: %w", err))
		}
		var m progressMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("read the daemon's progress: %w", err)
		}
		if err := m.fail(); err != nil {
			return err
		}
		if err := v.message(&m, raw); err != nil {
			return err
		}
	}
}

func (v *progressView) message(m *progressMessage, raw []byte) error {
	if m.Aux != nil {
		if v.aux != nil {
			v.aux(*m.Aux)
		}
		if m.Status == "" && m.Stream == "" {
			return nil
		}
	}
	if m.ID != "" && m.Detail.Total > 0 && counts(m.Status) {
		v.sizes[m.ID] = m.Detail.Total
	}
	switch {
	case v.style == styleJSON:
		_, err := v.w.Write(append(raw, '\n'))
		return err
	case m.Stream != "":
		_, err := io.WriteString(v.stream, m.Stream)
		return err
	case v.style == styleQuiet:
		return nil
	case v.style == stylePlain:
		return v.plain(m)
	}
	return v.live(m)
}

// plain prints each step of each layer once, and no movement.
func (v *progressView) plain(m *progressMessage) error {
	line := m.Status
	if m.ID != "" {
		line = m.ID + ": " + line
	}
	if m.ID != "" {
		if v.texts[m.ID] == m.Status {
			return nil
		}
		v.texts[m.ID] = m.Status
	}
	_, err := fmt.Fprintln(v.w, stripControl(line))
	return err
}

// redraw is how often a layer's movement is drawn.
const redraw = 50 * time.Millisecond

// live draws a line for each layer, over the one before.
func (v *progressView) live(m *progressMessage) error {
	text := m.Status
	if m.ID != "" {
		text = m.ID + ": " + text
	}
	if m.Detail.Total > 0 || m.Detail.Current > 0 {
		now := time.Now()
		if m.Detail.Current != m.Detail.Total && now.Sub(v.last) < redraw && v.texts[m.ID] != "" {
			return nil
		}
		v.last = now
		text += " " + v.bar(m.ID+m.Status, m.Detail.Current, m.Detail.Total)
	}
	text = truncate(stripControl(text), max(v.cols-1, 10))
	if m.ID == "" {
		_, err := fmt.Fprintln(v.w, text)
		v.rows, v.texts = nil, map[string]string{} // what is above stays as it is
		return err
	}
	if v.texts[m.ID] == "" {
		v.rows = append(v.rows, m.ID)
		v.texts[m.ID] = text
		_, err := fmt.Fprintln(v.w, text)
		return err
	}
	if v.texts[m.ID] == text {
		return nil
	}
	v.texts[m.ID] = text
	up := 0
	for i, id := range v.rows {
		if id == m.ID {
			up = len(v.rows) - i
		}
	}
	_, err := fmt.Fprintf(v.w, "\x1b[%dA\r\x1b[2K%s\x1b[%dB\r", up, text, up)
	return err
}

// counts says that the bytes of a status are those that are moved: each layer's are told once more as it is unpacked.
func counts(status string) bool {
	for _, s := range []string{"Download", "Loading", "Pushing"} {
		if strings.HasPrefix(status, s) {
			return true
		}
	}
	return false
}

// bar draws how much is done, the rate, and the time that is left.
func (v *progressView) bar(key string, current, total int64) string {
	if total <= 0 {
		return units.HumanSize(float64(current))
	}
	begun, ok := v.starts[key]
	if !ok {
		begun = time.Now()
		v.starts[key] = begun
	}
	s := fullBar(current, total)
	if gone := time.Since(begun); gone > time.Second && current > 0 && current < total {
		rate := float64(current) / gone.Seconds()
		s += fmt.Sprintf(" %s/s %s", humanFloat(rate), timeLeft(time.Duration(float64(total-current)/rate*float64(time.Second))))
	}
	return s
}

// fullBar is the part that is done as a bar and in bytes.
func fullBar(current, total int64) string {
	current = min(max(current, 0), total)
	const width = 20
	done := int(current * width / total)
	return "[" + strings.Repeat("=", done) + strings.Repeat(" ", width-done) + "] " + units.HumanSize(float64(current)) + "/" + units.HumanSize(float64(total))
}

// totals says how much was fetched, in what time.
func (v *progressView) totals(verb string) error {
	var sum int64
	for _, n := range v.sizes {
		sum += n
	}
	if sum == 0 || v.style == styleQuiet || v.style == styleJSON {
		return nil
	}
	gone := time.Since(v.began)
	layers := "layers"
	if len(v.sizes) == 1 {
		layers = "layer"
	}
	_, err := fmt.Fprintf(v.w, "%s %d %s, %s in %.1f s (%s/s)\n", verb, len(v.sizes), layers, units.HumanSize(float64(sum)), gone.Seconds(),
		humanFloat(float64(sum)/max(gone.Seconds(), 0.001)))
	return err
}
