package client

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// remoteDial runs on the other side: it joins its standard streams to the socket there.
const remoteDial = `if command -v kist >/dev/null 2>&1; then exec kist system dial-stdio; else exec docker system dial-stdio; fi`

// sshConn is the standard streams of an ssh process.
type sshConn struct {
	io.Reader
	in     io.WriteCloser
	cmd    *exec.Cmd
	stderr *tail
	once   sync.Once
}

func dialSSH(addr string) (transport, error) {
	u, err := url.Parse("ssh://" + addr)
	if err != nil {
		return nil, err
	}
	args := []string{"-o", "ConnectTimeout=30", "-T"}
	if name := u.User.Username(); name != "" {
		args = append(args, "-l", name)
	}
	if p := u.Port(); p != "" {
		args = append(args, "-p", p)
	}
	remote := remoteDial
	if u.Path != "" && u.Path != "/" {
		remote = "KIST_HOST=" + quoteSh("unix://"+u.Path) + "; DOCKER_HOST=$KIST_HOST; export KIST_HOST DOCKER_HOST; " + remote
	}
	// Whatever shell the user has there, this is for sh.
	args = append(args, "--", u.Hostname(), "sh -c "+quoteSh(remote))
	c := &sshConn{cmd: exec.Command("ssh", args...), stderr: &tail{}}
	c.cmd.Stderr = c.stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.Reader, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ssh: %w", err)
	}
	return c, nil
}

func quoteSh(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Read tells ssh's own last words when the connection ends before anything came.
func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n == 0 && err == io.EOF {
		c.end(lastWords)
		if said := c.stderr.String(); said != "" {
			return 0, &sshError{said}
		}
	}
	return n, err
}

// sshError is what ssh said when it ended before anything came.
type sshError struct{ text string }

func (e *sshError) Error() string { return "ssh: " + e.text }

func (c *sshConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// CloseWrite ends the other side's input.
func (c *sshConn) CloseWrite() error { return c.in.Close() }

// lastWords is how long an ssh that has closed its output may take to say why.
const lastWords = time.Second

// Close ends the process.
func (c *sshConn) Close() error {
	c.end(0)
	return nil
}

// end waits for the process, and ends it if that takes too long.
func (c *sshConn) end(patience time.Duration) {
	c.once.Do(func() {
		c.in.Close()
		// The process may have ended by itself; there is nothing to learn from either.
		kill := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
		defer kill.Stop()
		_ = c.cmd.Wait()
	})
}

// tail keeps the last lines of what it is written.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

const tailSize = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf = append(t.buf, p...); len(t.buf) > tailSize {
		t.buf = t.buf[len(t.buf)-tailSize:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
