package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/client"
)

func (a *app) buildCommand() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{Use: "build [OPTIONS] PATH | URL | -", Args: exactly(1)}
	f.declare(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		style, err := a.buildStyle(&f)
		if err != nil {
			return err
		}
		b := &buildRun{app: a, flags: &f, began: time.Now()}
		if err := b.prepare(args[0]); err != nil {
			return err
		}
		return b.run(style)
	}
	return c
}

// buildRun is one build as the client sees it.
type buildRun struct {
	app   *app
	flags *buildFlags
	began time.Time

	req buildmsg.Request
	// dirs are the local directories by the names that the daemon asks for them with, agents the sockets.
	dirs   map[string]string
	agents map[string]string
	// stdin is what is left of standard input when its beginning was looked at.
	stdin io.Reader
	// outputs are the files, or directories, that the daemon's streams are written to.
	outputs map[int]string
	// layouts are those of them that are unpacked.
	layouts map[int]bool
	// call is what is asked instead of a build.
	call call

	view *buildView
	give givers
}

// buildStyle chooses how progress is shown.
func (a *app) buildStyle(f *buildFlags) (buildStyle, error) {
	progress := f.progress
	if progress == "" || progress == "auto" {
		if v := a.getenv("BUILDKIT_PROGRESS"); v != "" {
			progress = v
		}
	}
	switch {
	case f.quiet, progress == "quiet", progress == "none":
		return buildQuiet, nil
	case progress == "plain":
		return buildPlain, nil
	case progress == "rawjson":
		return buildRaw, nil
	case progress == "tty" && !a.lively(a.err):
		return buildQuiet, errors.New("--progress tty: standard error is no terminal")
	case progress != "" && progress != "auto" && progress != "tty":
		return buildQuiet, fmt.Errorf("invalid --progress %q: must be auto, plain, tty, quiet or rawjson", progress)
	case a.lively(a.err):
		return buildLive, nil
	}
	return buildPlain, nil
}

// run makes the request and shows what comes.
func (b *buildRun) run(style buildStyle) error {
	cl, err := b.app.client()
	if err != nil {
		return err
	}
	if b.call.method != "" && style != buildRaw {
		style = buildQuiet
	}
	b.req.Quiet = style == buildQuiet
	r, err := client.PostJSON("/kist/build", nil, &b.req)
	if err != nil {
		return err
	}
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b.view = b.app.newBuildView(style)
	last, err := b.follow(cl, resp.Body)
	b.view.close()
	if err := errors.Join(err, b.give.wait()); err != nil {
		return err
	}
	switch {
	case last.Failure != nil:
		return b.failed(last.Failure)
	case last.Result != nil && b.call.method != "":
		return b.called(last.Result)
	case last.Result != nil:
		return b.succeeded(last.Result)
	}
	return errors.New("the daemon ended the build without saying how")
}

// follow reads messages until the last one.
func (b *buildRun) follow(cl *client.Client, body io.Reader) (*buildmsg.Message, error) {
	messages := make(chan lineOrError, 16)
	go readMessages(body, messages)
	for {
		select {
		case l := <-messages:
			switch {
			case l.err != nil:
				return nil, l.err
			case l.message.Want != nil:
				b.answer(cl, l.message.Want)
			case l.last():
				return &l.message, nil
			default:
				if err := b.view.show(&l.message, l.raw); err != nil {
					return nil, err
				}
			}
		case <-b.view.ticks():
			b.view.tick()
		}
	}
}

// lineOrError is one message, or why there is none.
type lineOrError struct {
	raw     []byte
	message buildmsg.Message
	err     error
}

// last says that nothing comes after it.
func (l *lineOrError) last() bool {
	return l.err != nil || l.message.Result != nil || l.message.Failure != nil
}

// readMessages reads documents of JSON to the last one, and leaves the body alone from then on.
func readMessages(r io.Reader, to chan<- lineOrError) {
	dec := json.NewDecoder(r)
	for {
		var l lineOrError
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if err == nil {
			err = json.Unmarshal(raw, &l.message)
		}
		if errors.Is(err, io.EOF) {
			l.err = lostDaemon(fmt.Errorf("the daemon ended before the build did: %w", io.ErrUnexpectedEOF))
		} else if err != nil {
			l.err = lostDaemon(fmt.Errorf("read the daemon's progress: %w", err))
		}
		l.raw = raw
		to <- l
		if l.last() {
			return
		}
	}
}

// succeeded says what was built.
func (b *buildRun) succeeded(r *buildmsg.Result) error {
	if err := b.writeFiles(r); err != nil {
		return err
	}
	v := b.view
	if v.style == buildRaw {
		return nil
	}
	if v.style == buildQuiet {
		if r.ID != "" {
			return b.app.printLine(r.ID)
		}
		return nil
	}
	v.warnings()
	if b.flags.explain {
		b.explain(r.Steps)
	}
	if r.Summary != "" {
		b.app.note(r.Summary)
	}
	if r.ID == "" {
		return nil
	}
	took := fmt.Sprintf(" in %.1fs", time.Since(b.began).Seconds())
	short := shortDigest(r.ID)
	if len(r.Names) == 0 {
		b.app.note("Built " + short + took)
		b.app.note("It has no name. Give it one with -t NAME, or run it by its id: kist run " + short)
		return nil
	}
	names := make([]string, len(r.Names))
	for i, n := range r.Names {
		names[i] = familiarName(n)
	}
	b.app.note("Built " + strings.Join(names, ", ") + " (" + short + ")" + took)
	return nil
}

// familiarName is an image's name as people write it.
func familiarName(s string) string {
	n, err := parseImage(s)
	if err != nil || n.tag == "" {
		return s
	}
	return n.familiar() + ":" + n.tag
}

func shortDigest(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok {
		hex = id
	}
	return truncate(hex, 12)
}

// explain says of every step why it ran.
func (b *buildRun) explain(steps []buildmsg.Step) {
	for i, s := range steps {
		state := "ran"
		if s.Cached {
			state = "cached"
		}
		line := fmt.Sprintf("%3d  %-6s %7.1fs  %s", i+1, state, float64(s.Milliseconds)/1000, stripControl(s.Name))
		if s.Reason != "" {
			line += "\n                     " + stripControl(s.Reason)
		}
		b.app.note(line)
	}
}

// writeFiles writes --iidfile and --metadata-file.
func (b *buildRun) writeFiles(r *buildmsg.Result) error {
	if f := b.flags.iidFile; f != "" && r.ID != "" {
		if err := os.WriteFile(f, []byte(r.ID), 0o666); err != nil { //nolint:gosec // as the umask has it
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if f := b.flags.metadataFile; f != "" {
		raw, err := metadataJSON(r)
		if err == nil {
			err = os.WriteFile(f, raw, 0o666) //nolint:gosec // as the umask has it
		}
		if err != nil {
			return fmt.Errorf("write --metadata-file: %w", err)
		}
	}
	return nil
}
