package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/sys"
)

// scriptPlace is where the script lies in the image while it runs.
const scriptPlace = ".kist-bootstrap"

// configure runs the packages' own scripts, in a container that reaches nothing.
func (j *job) configure(ctx context.Context, id string, root *sys.Root, all []*unpacked) error {
	if err := writeFile(root, scriptPlace, []byte(newScript(all).write(all)), 0o700); err != nil {
		return err
	}
	out := &statusLog{count: j.counter(bootmsg.StageConfigure, len(all), 0), seen: map[string]bool{}}
	_, err := j.m.cfg.Commands.Run(ctx, runstep.Request{
		Op: &pb.ExecOp{
			Meta: &pb.Meta{
				Args: []string{"/bin/sh", "/" + scriptPlace}, Cwd: "/", Hostname: "localhost",
				Env: []string{
					"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "TERM=dumb",
					"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "DEBCONF_NOWARNINGS=yes",
					"SOURCE_DATE_EPOCH=" + strconv.FormatInt(j.epoch.Unix(), 10),
				},
			},
			Network: pb.NetMode_NONE,
		},
		Mounts:   []runstep.Mount{{Mount: &pb.Mount{Dest: pb.RootMount, Output: -1}, Prepared: id}},
		Platform: &j.target.platform, Output: out,
	})
	if err != nil {
		return j.explainScript(err, out)
	}
	if err := sys.RemoveAllAt(root.Fd(), scriptPlace); err != nil {
		return err
	}
	return unconfigured(root)
}

// ScriptError is packages that could not be configured.
type ScriptError struct {
	// Tail is the end of what was printed.
	Tail string
	Err  error
}

func (e *ScriptError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *ScriptError) Unwrap() error { return e.Err }

func (j *job) explainScript(err error, out *statusLog) error {
	var exit *runstep.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	cause := "one of their scripts failed"
	if out.failed != "" {
		cause = out.failed
	}
	if exit.OOMKilled {
		cause += "; the kernel killed it for want of memory"
	}
	return &ScriptError{out.log.String(), &fault.Error{
		Code: "bootstrap-configure", What: "cannot configure the packages of " + j.target.suite + ": " + cause,
		Cause: fmt.Sprintf("the packages' scripts ended with exit code %d; the end of their output is above", exit.Code),
		Try:   "see what was printed; --exclude for a package that does not do without the network or a service", Class: errdefs.ErrUnknown, Err: err,
	}}
}

// maxLog is how much of the output is kept.
const maxLog = 8 << 10

// statusLog reads what dpkg says of its progress out of what is printed, and keeps the end of the rest.
type statusLog struct {
	count  *counter
	seen   map[string]bool
	failed string
	line   []byte
	log    bytes.Buffer
}

// Write takes output.
func (l *statusLog) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if len(l.line)+len(line) < maxLog {
			l.line = append(l.line, line...)
		}
		if rest = after; whole {
			l.take(string(l.line))
			l.line = l.line[:0]
		}
	}
	return len(p), nil
}

// take reads a line: "status: PACKAGE: STATE", "status: PACKAGE: error: WHY", "processing: configure: PACKAGE".
func (l *statusLog) take(line string) {
	if rest, ok := strings.CutPrefix(line, "status: "); ok {
		name, state, ok := cutStatus(rest)
		switch {
		case !ok:
		case state == "installed":
			if !l.seen[name] {
				l.seen[name] = true
				l.count.one(name)
			}
		case strings.HasPrefix(state, "error"):
			l.failed = name + ": " + strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(state, "error"), " :"))
		}
		return
	}
	if strings.HasPrefix(line, "processing: ") {
		return
	}
	l.log.WriteString(line + "\n")
	if l.log.Len() > 2*maxLog {
		keep := bytes.Clone(l.log.Bytes()[l.log.Len()-maxLog:])
		l.log.Reset()
		l.log.Write(keep)
	}
}

// cutStatus parts a package, which may have its architecture behind a colon, from its state.
func cutStatus(s string) (name, state string, ok bool) {
	name, state, ok = strings.Cut(s, ": ")
	name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
	return name, strings.TrimSpace(state), ok
}

// unconfigured looks whether dpkg is content with all packages.
func unconfigured(root *sys.Root) error {
	status, err := root.ReadFile(admin+"/status", 256<<20)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte("Status: ")); ok && string(bytes.TrimSpace(v)) != "install ok installed" {
			return fmt.Errorf("a package is %q after all: %w", bytes.TrimSpace(v), errdefs.ErrInternal)
		}
	}
	return nil
}
