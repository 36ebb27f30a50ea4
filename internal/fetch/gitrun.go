package fetch

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/relay"
	"github.com/kistdev/kist/internal/sys"
)

// git runs the program for one repository.
type git struct {
	program string
	dir     string // for what is needed meanwhile
	env     []string
	agent   *relay.Relay
}

// newGit finds the program and shuts it off from the user's and the machine's configuration.
func (s *Store) newGit(ctx context.Context, r *Repository) (_ *git, err error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, &fault.Error{
			Code: "git-missing", What: "cannot fetch git repository " + redact(r.Remote),
			Cause: "the program git is not on this machine", Try: "install git where the daemon runs", Class: errdefs.ErrFailedPrecondition, Err: err,
		}
	}
	g := &git{program: program}
	if g.dir, err = s.temp(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	g.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + g.dir, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false", "SSH_ASKPASS=false", "GIT_OPTIONAL_LOCKS=0",
		"GIT_PROTOCOL_FROM_USER=0", "GIT_ALLOW_PROTOCOL=http:https:git:ssh",
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"} {
		for _, key := range []string{name, strings.ToLower(name)} {
			if v, ok := os.LookupEnv(key); ok {
				g.env = append(g.env, key+"="+v)
			}
		}
	}
	ssh, err := g.ssh(ctx, r)
	if err != nil {
		return nil, err
	}
	g.env = append(g.env, "GIT_SSH_COMMAND="+ssh)
	g.configure(r)
	return g, nil
}

// configure gives the configuration by the environment: no other process can read secrets there, as it could arguments.
func (g *git) configure(r *Repository) {
	settings := [][2]string{
		{"core.hooksPath", os.DevNull},
		{"core.fsmonitor", "false"},
		{"core.attributesFile", os.DevNull},
		{"core.protectHFS", "true"},
		{"core.protectNTFS", "true"},
		{"safe.directory", "*"},
		{"init.defaultBranch", "master"},
		{"advice.detachedHead", "false"},
		{"gc.auto", "0"},
		{"credential.helper", ""},
		{"http.followRedirects", "initial"},
		{"submodule.recurse", "false"},
	}
	if header := authorization(r); header != "" {
		// For this server only: submodules may lie elsewhere.
		if u, err := url.Parse(r.Remote); err == nil {
			settings = append(settings, [2]string{"http." + u.Scheme + "://" + u.Host + "/.extraHeader", "Authorization: " + header})
		}
	}
	g.env = append(g.env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)))
	for i, kv := range settings {
		n := strconv.Itoa(i)
		g.env = append(g.env, "GIT_CONFIG_KEY_"+n+"="+kv[0], "GIT_CONFIG_VALUE_"+n+"="+kv[1])
	}
}

// authorization is the value of the header that tells who asks.
func authorization(r *Repository) string {
	if r.AuthHeader != "" {
		return strings.TrimSpace(r.AuthHeader)
	}
	if r.Token != "" {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+strings.TrimSpace(r.Token)))
	}
	return ""
}

// ssh is the command by which git reaches ssh servers.
func (g *git) ssh(ctx context.Context, r *Repository) (string, error) {
	command := "ssh -F /dev/null -o BatchMode=yes"
	if r.KnownHosts == "" {
		command += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
	} else {
		file := filepath.Join(g.dir, "known_hosts")
		if err := os.WriteFile(file, []byte(r.KnownHosts), 0o600); err != nil {
			return "", err
		}
		command += " -o StrictHostKeyChecking=yes -o UserKnownHostsFile=" + file
	}
	if r.Agent == nil {
		return command, nil
	}
	dir, err := os.Open(g.dir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	// Through the descriptor, for the path may be longer than an address.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: sys.FDPath(int(dir.Fd())) + "/agent"})
	if err != nil {
		return "", fmt.Errorf("forward ssh agent to git: %w", err)
	}
	l.SetUnlinkOnClose(false)
	g.agent = relay.Serve(l, func() (net.Conn, error) { return r.Agent(ctx) })
	g.env = append(g.env, "SSH_AUTH_SOCK="+filepath.Join(g.dir, "agent"))
	return command, nil
}

func (g *git) close() {
	if g.agent != nil {
		_ = g.agent.Close()
	}
	_ = sys.RemoveTree(g.dir) // or Open does
}

// maxAnswer bounds what git may print.
const maxAnswer = 64 << 20

// run runs git in a directory and returns what it prints. The end of its messages becomes the error.
func (g *git) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, g.program, args...)
	if dir == "" {
		dir = g.dir
	}
	c.Dir, c.Env = dir, g.env
	var out bytes.Buffer
	var said lastBytes
	c.Stdout, c.Stderr = &limited{&out, maxAnswer}, &said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: 0}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) } // with its helpers
	c.WaitDelay = 5 * time.Second
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, gitError(args[0], said.String(), err)
	}
	return out.Bytes(), nil
}

// gitError says what git said.
func gitError(verb, said string, err error) error {
	var x *exec.ExitError
	if !errors.As(err, &x) {
		return fmt.Errorf("git %s: %w", verb, err)
	}
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Warning: Permanently added") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		lines = []string{x.String()}
	}
	return fmt.Errorf("git %s: %s: %w", verb, strings.Join(lines, "; "), errdefs.ErrUnavailable)
}

// limited is a writer that takes so many bytes.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("more than %d bytes: %w", maxAnswer, errdefs.ErrResourceExhausted)
	}
	l.left -= len(p)
	return l.w.Write(p)
}

// lastBytes keeps the end of what is written.
type lastBytes struct{ buf []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	const size = 2 << 10
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - size; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(p), nil
}

func (l *lastBytes) String() string { return string(l.buf) }
