package cli

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/client"
)

// givers are the streams that the daemon has asked for. Agents' connections are not waited for: the build ends them.
type givers struct {
	wg sync.WaitGroup

	mu  sync.Mutex // guards err
	err error
}

func (g *givers) wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// answer gives the daemon what it wants of this machine.
func (b *buildRun) answer(cl *client.Client, w *buildmsg.Want) {
	stream, err := cl.Hijack(client.Post("/kist/build/give", url.Values{"want": {w.ID}}))
	if err != nil {
		b.app.note("warning: " + err.Error())
		return
	}
	give := func() error {
		defer stream.Close()
		if err := b.giveOne(stream, w); err != nil {
			return fmt.Errorf("%s: %w", b.whatIs(w), err)
		}
		return nil
	}
	if w.Kind == "ssh" {
		go func() { _ = give() }()
		return
	}
	b.give.wg.Go(func() {
		if err := give(); err != nil {
			b.give.mu.Lock()
			b.give.err = errors.Join(b.give.err, err)
			b.give.mu.Unlock()
		}
	})
}

// whatIs says for a person what the daemon wants.
func (b *buildRun) whatIs(w *buildmsg.Want) string {
	switch w.Kind {
	case "output":
		return "write the output " + b.outputs[w.Index]
	case "auth":
		return "send the credentials for " + w.Name
	case "ssh":
		return "forward the ssh agent " + w.Name
	}
	return "send the context " + strings.TrimPrefix(w.Name, "named-")
}

func (b *buildRun) giveOne(s *client.Stream, w *buildmsg.Want) error {
	switch w.Kind {
	case "dir":
		dir, ok := b.dirs[w.Name]
		if !ok && w.Name == "dockerfile" {
			dir, ok = b.dirs["context"]
		}
		if !ok {
			return errors.New("it was not given")
		}
		return sendDir(s, dir, w)
	case "stream":
		if _, err := io.Copy(s, b.stdin); err != nil {
			return err
		}
		return s.CloseWrite()
	case "auth":
		return b.sendAuth(s, w.Name)
	case "ssh":
		return b.joinAgent(s, w.Name)
	case "output":
		return b.receive(s, w)
	}
	return fmt.Errorf("unknown kind %q", w.Kind)
}

func (b *buildRun) sendAuth(s *client.Stream, host string) error {
	auth, err := b.app.credentials(host)
	if err != nil {
		b.app.note("warning: " + err.Error())
	}
	raw, err := json.Marshal(buildmsg.Credentials{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken})
	if err != nil {
		return err
	}
	if _, err := s.Write(raw); err != nil {
		return err
	}
	return s.CloseWrite()
}

// joinAgent connects the stream to an ssh agent of this machine.
func (b *buildRun) joinAgent(s *client.Stream, id string) error {
	path, ok := b.agents[id]
	if !ok {
		return errors.New("it was not given")
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, s.Reader())
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(s, conn)
	return errors.Join(err, s.CloseWrite())
}

// receive writes an output, and tells the daemon when that is done.
func (b *buildRun) receive(s *client.Stream, w *buildmsg.Want) error {
	dest, ok := b.outputs[w.Index]
	if !ok {
		return errors.New("no such output was asked for")
	}
	var err error
	switch {
	case dest == "-":
		_, err = io.Copy(b.app.out, s.Reader())
	case b.layouts[w.Index]:
		err = unpackLayout(s.Reader(), dest)
	case w.Tree:
		if err = os.MkdirAll(dest, 0o777); err == nil { //nolint:gosec // as the umask has it
			err = unpackInto(s.Reader(), dest)
		}
	default:
		err = saveTo(dest, io.NopCloser(s.Reader()))
	}
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte("ok")); err != nil {
		return err
	}
	return s.CloseWrite()
}

// sendDir sends a directory as an archive, without what the patterns leave out.
func sendDir(w interface {
	io.Writer
	CloseWrite() error
}, dir string, want *buildmsg.Want,
) error {
	chosen, err := newChoice(want.Include, want.Exclude)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	links := map[inode]string{}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil || rel == "." {
			return err
		}
		switch take, skip, err := chosen.of(rel, d.IsDir()); {
		case err != nil:
			return err
		case skip:
			return fs.SkipDir
		case !take:
			return nil
		}
		_, err = packOne(tw, p, rel, links)
		return err
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return w.CloseWrite()
}

// choice chooses files by patterns as in .dockerignore.
type choice struct {
	include, exclude *patternmatcher.PatternMatcher
}

func newChoice(include, exclude []string) (*choice, error) {
	c := new(choice)
	var err error
	if len(include) > 0 {
		if c.include, err = patternmatcher.New(include); err != nil {
			return nil, err
		}
	}
	if len(exclude) > 0 {
		if c.exclude, err = patternmatcher.New(exclude); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// of says whether a path is taken, and whether nothing below it is.
func (c *choice) of(rel string, dir bool) (take, skip bool, err error) {
	take = true
	if c.include != nil {
		if take, err = c.include.MatchesOrParentMatches(rel); err != nil {
			return false, false, err
		}
	}
	if c.exclude == nil {
		return take || dir, false, nil
	}
	out, err := c.exclude.MatchesOrParentMatches(rel)
	if err != nil {
		return false, false, err
	}
	if !out {
		return take || dir, false, nil
	}
	// A later pattern may take something below back in.
	return false, dir && !c.exclude.Exclusions(), nil
}
