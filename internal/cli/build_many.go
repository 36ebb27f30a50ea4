package cli

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/client"
)

// BuildJob is one of several builds that are shown as one.
type BuildJob struct {
	// Name is told with what becomes of it; Prefix stands before each of its steps.
	Name, Prefix string
	// Args are build's flags and its argument.
	Args []string
	// Dockerfile is in the place of a file, when there is one.
	Dockerfile string
	// Secrets are values by id, besides those of Args.
	Secrets map[string][]byte
}

// BuildDone is what became of one.
type BuildDone struct {
	ID      string
	Summary string
	Err     error
	// failed tells of a failure, below what was drawn.
	failed func() error
}

// manyBuilds are builds at the same time. Steps that several have in common are done, and shown, once.
type manyBuilds struct {
	mu     sync.Mutex // guards what is below
	view   *buildView
	owners map[string]int // whose a step is shown as
}

// BuildAll carries out builds at the same time.
func (t *Tool) BuildAll(jobs []BuildJob, progress string) ([]BuildDone, error) {
	style, err := t.app.buildStyle(&buildFlags{progress: progress})
	if err != nil {
		return nil, err
	}
	m := &manyBuilds{view: t.app.newBuildView(style), owners: map[string]int{}}
	done := make([]BuildDone, len(jobs))
	var running sync.WaitGroup
	for i := range jobs {
		running.Go(func() { done[i] = m.one(t.app, &jobs[i], i) })
	}
	ended := make(chan struct{})
	go func() {
		running.Wait()
		close(ended)
	}()
	m.show(ended)
	for i := range done {
		if done[i].failed != nil {
			done[i].Err = fmt.Errorf("build %s: %w", jobs[i].Name, done[i].failed())
		}
	}
	return done, nil
}

// show lets a live view move until all have ended.
func (m *manyBuilds) show(ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			m.mu.Lock()
			defer m.mu.Unlock()
			m.view.close()
			return
		case <-m.view.ticks():
			m.mu.Lock()
			m.view.tick()
			m.mu.Unlock()
		}
	}
}

// one carries out a build.
func (m *manyBuilds) one(a *app, j *BuildJob, index int) (done BuildDone) {
	fail := func(err error) BuildDone { return BuildDone{Err: fmt.Errorf("build %s: %w", j.Name, err)} }
	var f buildFlags
	fs := pflag.NewFlagSet("build", pflag.ContinueOnError)
	f.declare(fs)
	if err := fs.Parse(j.Args); err != nil {
		return fail(err)
	}
	own := *a // Each reads its Dockerfile from a standard input of its own.
	own.in = strings.NewReader(j.Dockerfile)
	b := &buildRun{app: &own, flags: &f, began: time.Now(), view: m.view}
	if err := b.prepare(fs.Arg(0)); err != nil {
		return fail(err)
	}
	maps.Copy(b.req.Secrets, j.Secrets)
	cl, err := a.client()
	if err != nil {
		return fail(err)
	}
	r, err := client.PostJSON("/kist/build", nil, &b.req)
	if err != nil {
		return fail(err)
	}
	resp, err := cl.Do(r)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	messages := make(chan lineOrError, 16)
	go readMessages(resp.Body, messages)
	for l := range messages {
		switch {
		case l.err != nil:
			return fail(errors.Join(l.err, b.give.wait()))
		case l.message.Want != nil:
			b.answer(cl, l.message.Want)
		case l.last():
			return buildEnded(b, j, &l.message)
		default:
			if err := m.take(&l, index, j.Prefix); err != nil {
				return fail(err)
			}
		}
	}
	return fail(errors.New("the daemon ended the build without saying how"))
}

// take shows a message, without what another build has shown.
func (m *manyBuilds) take(l *lineOrError, index int, prefix string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	mine := func(digest string) bool {
		if owner, ok := m.owners[digest]; ok {
			return owner == index
		}
		m.owners[digest] = index
		return true
	}
	var own buildmsg.Message
	for _, v := range l.message.Vertexes {
		if mine(v.Digest) {
			if v.Name != "" {
				v.Name = prefix + v.Name
			}
			own.Vertexes = append(own.Vertexes, v)
		}
	}
	for _, s := range l.message.Statuses {
		if mine(s.Vertex) {
			own.Statuses = append(own.Statuses, s)
		}
	}
	for _, g := range l.message.Logs {
		if mine(g.Vertex) {
			own.Logs = append(own.Logs, g)
		}
	}
	own.Warnings = l.message.Warnings
	return m.view.show(&own, l.raw)
}

// buildEnded is the last message as a result.
func buildEnded(b *buildRun, j *BuildJob, last *buildmsg.Message) BuildDone {
	err := b.give.wait()
	switch {
	case err != nil:
	case last.Failure != nil:
		return BuildDone{failed: func() error { return b.failed(last.Failure) }}
	case last.Result != nil:
		return BuildDone{ID: last.Result.ID, Summary: last.Result.Summary}
	default:
		err = errors.New("the daemon ended the build without saying how")
	}
	return BuildDone{Err: fmt.Errorf("build %s: %w", j.Name, err)}
}
