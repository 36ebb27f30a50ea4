package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
)

// daemonState is what is known of the daemon without and with its help.
type daemonState struct {
	pid     int    // 0: it does not run
	version string // as it says
	err     error  // why it does not answer; nil when it does
	api     *client.Client
}

// askTime bounds what the daemon is asked: one that hangs is a finding.
const askTime = 5 * time.Second

// findDaemon finds the process by the lock that it holds, and asks it for its version.
func (h *host) findDaemon(ctx context.Context) daemonState {
	d := daemonState{pid: lockHolder(filepath.Join(h.DataRoot, "kistd.lock"))}
	if d.pid == 0 {
		d.pid = lockHolder(filepath.Join(h.ExecRoot, "kistd.lock"))
	}
	d.api = client.New(client.Endpoint{Scheme: "unix", Addr: h.Socket, Own: true, Roots: client.Roots{Data: h.DataRoot, Exec: h.ExecRoot}}, client.Options{Agent: h.Version})
	v, err := asked(ctx, func() (*struct{ Version string }, error) {
		return client.CallJSON[struct{ Version string }](d.api, client.Get("/version", nil))
	})
	if d.err = err; err == nil {
		d.version = v.Version
	}
	return d
}

// lockHolder is the process that holds a lock on the file; 0 if nobody does.
func lockHolder(path string) int {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	inode := fmt.Sprintf(":%d", st.Ino)
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		if len(f) > 5 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			pid, err := strconv.Atoi(f[4])
			if err == nil && pid > 0 {
				return pid
			}
		}
	}
	return 0
}

// asked bounds a question.
func asked[T any](ctx context.Context, question func() (*T, error)) (*T, error) {
	type answer struct {
		v   *T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := question()
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(askTime):
		return nil, fmt.Errorf("no answer within %v", askTime)
	}
}

// daemon looks at the process, its configuration, its sockets and its log.
func daemon(_ context.Context, h *host) []Finding {
	var list []Finding
	if h.ConfigErr != nil {
		f := fail("configuration", h.ConfigErr.Error(), "correct it: the daemon does not start with it")
		if x, ok := fault.As(h.ConfigErr); ok {
			f.Text = x.What
			if x.Cause != "" {
				f.Text += ": " + x.Cause
			}
			if x.Try != "" {
				f.Try = x.Try
			}
		}
		list = append(list, f)
	} else if h.ConfigFile != "" {
		list = append(list, ok("configuration", h.ConfigFile+" can be read"))
	}
	d := &h.daemon
	switch {
	case d.err == nil && d.version != h.Version:
		list = append(list, warn("process", fmt.Sprintf("%s runs version %s, this is %s", pidText(d.pid), d.version, h.Version), fmt.Sprintf("kill %d && kist ps (containers go on)", d.pid)))
	case d.err == nil:
		list = append(list, ok("process", fmt.Sprintf("%s, version %s, answers at %s", pidText(d.pid), d.version, h.Socket)))
	case d.pid != 0:
		list = append(list, fail("process", fmt.Sprintf("%s runs but does not answer at %s: %v", pidText(d.pid), h.Socket, d.err), fmt.Sprintf("kill -9 %d && kist ps (containers go on)", d.pid)))
	default:
		list = append(list, ok("process", "not running; the next command that needs it starts it"))
	}
	if d.err == nil {
		list = append(list, socket(h.Socket))
	}
	if err := exec(); err != nil {
		list = append(list, fail("programs", err.Error(), "install kist and kistd into one directory"))
	}
	return append(list, logErrors(client.Roots{Data: h.DataRoot}.Log()))
}

func pidText(pid int) string {
	if pid == 0 {
		return "a daemon that was not started by kist"
	}
	return fmt.Sprintf("pid %d", pid)
}

// exec looks for the program that is the keeper, beside this one.
func exec() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(self), "kist"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no kist beside %s, and it is the keeper's program", self)
	}
	return err
}

// socket says who may use it: whoever may is root on this host.
func socket(path string) Finding {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fail("socket", err.Error(), "")
	}
	group := strconv.Itoa(int(st.Gid))
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	text := fmt.Sprintf("%s: mode %04o, user %d, group %s", path, st.Mode&0o7777, st.Uid, group)
	if st.Mode&0o002 != 0 {
		return fail("socket", text+": everybody on this host may use it, and is root by it", "chmod 660 "+path)
	}
	return ok("socket", text)
}

// Part of a log that is looked at, and how old an error is news.
const (
	logTail = 256 << 10
	logNews = 24 * time.Hour
)

// logErrors finds the errors of the last day in a log.
func logErrors(path string) Finding {
	const name = "log"
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ok(name, "there is no "+path+": nothing was started by a command yet, or another service keeps its log")
	}
	if err != nil {
		return warn(name, err.Error(), "")
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd) // From the beginning, then.
	}
	raw, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil {
		return warn(name, err.Error(), "")
	}
	var last, unstarted string
	n := 0
	for l := range bytes.Lines(raw) {
		text := string(bytes.TrimSpace(l))
		if strings.Contains(text, "msg=ready ") {
			unstarted = ""
		} else if strings.HasPrefix(text, "error: the daemon cannot start") {
			unstarted = text
		}
		if strings.Contains(text, "level=ERROR") && recent(text) || strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
			last, n = text, n+1
		}
	}
	if unstarted != "" {
		return warn(name, "the last start failed: "+strings.TrimPrefix(unstarted, "error: "), "less "+path)
	}
	if n == 0 {
		return ok(name, path+" has no errors of the last day")
	}
	const most = 300
	return warn(name, fmt.Sprintf("%d errors of the last day in %s; the last: %s", n, path, last[:min(most, len(last))]), "less "+path)
}

// recent says whether a line's time is within the last day; without one it is.
func recent(l string) bool {
	_, rest, found := strings.Cut(l, "time=")
	if !found {
		return true
	}
	stamp, _, _ := strings.Cut(rest, " ")
	t, err := time.Parse(time.RFC3339Nano, stamp)
	return err != nil || time.Since(t) < logNews
}

// keeper looks at the process that holds the containers.
func keeper(_ context.Context, h *host) []Finding {
	var list []Finding
	path := filepath.Join(h.ExecRoot, "keeper", "keeper.sock")
	var own []process
	for _, p := range h.called("kist") {
		if len(p.args) == 4 && p.args[1] == "keeper" && p.args[3] == filepath.Dir(path) {
			own = append(own, p)
		}
	}
	running := 0
	if h.stock != nil {
		for _, c := range h.stock.containers {
			if c.running {
				running++
			}
		}
	}
	switch len(own) {
	case 0:
		if running > 0 && h.daemon.pid != 0 {
			list = append(list, fail("process", fmt.Sprintf("there is none, but %d containers run", running), fmt.Sprintf("kill %d && kist ps: the next daemon starts one", h.daemon.pid)))
		} else {
			list = append(list, ok("process", "none, and no container needs one"))
		}
	case 1:
		if c, err := net.DialTimeout("unixpacket", path, time.Second); err != nil {
			list = append(list, fail("process", fmt.Sprintf("pid %d does not answer at %s: %v", own[0].pid, path, err), fmt.Sprintf("kill -9 %d: the daemon starts another one, and containers go on", own[0].pid)))
		} else {
			_ = c.Close()
			list = append(list, ok("process", fmt.Sprintf("pid %d holds %d containers", own[0].pid, running)))
		}
	default:
		list = append(list, fail("process", fmt.Sprintf("there are %d", len(own)), "less "+filepath.Join(filepath.Dir(path), "keeper.log")))
	}
	return append(list, logErrors(filepath.Join(filepath.Dir(path), "keeper.log")))
}
