package runstep

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestRun(t *testing.T) {
	w := newWorld(t)
	made := w.want(w.request("echo out; echo err >&2; echo hello >/made; rm /data/seed"), "out\nerr\n")
	if len(made) != 1 || w.files(made[0]) != "data/ data/.wh.seed made" {
		t.Errorf("%v: %s", made, w.files(made[0]))
	}
	if made := w.want(w.request("true"), ""); made[0].DiffID != "" {
		t.Error("a layer of nothing:", w.files(made[0]))
	}
	w.leftovers()
}

func TestNothingOfTheEngineStays(t *testing.T) {
	w := newWorld(t)
	q := w.request("cat /etc/hosts /etc/resolv.conf; hostname; echo x >/etc/hostname; echo $HOME; touch /etc/hosts || true")
	q.Op.Meta.ExtraHosts = []*pb.HostIP{{Host: "db", IP: "192.0.2.7"}, {Host: "host", IP: "host-gateway"}}
	out, made, err := w.run(q)
	w.ok(err)
	for _, line := range []string{"192.0.2.7\tdb\n", "192.0.2.1\thost\n", "127.0.0.1\tbuildkitsandbox\n", "nameserver 192.0.2.53\n", "\nbuildkitsandbox\n", "/root\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
	if got := w.files(made[0]); got != "etc/ etc/hostname" {
		t.Error(got)
	}
}

func TestMeta(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, script, out string
		set               func(*pb.ExecOp)
	}{
		{"env", "env | grep -v SHLVL", "HOME=/root\nA=1\nPATH=/bin\nB=two words\nPWD=/\n", func(o *pb.ExecOp) { o.Meta.Env = []string{"A=1", "B=two words", "PATH=/bin"} }},
		{"cwd is made", "pwd", "/not/there/yet\n", func(o *pb.ExecOp) { o.Meta.Cwd = "/not/there/yet" }},
		{"user", "id -u; id -g; id -G; echo $HOME", "1000\n1001\n1001 2000\n/home/app\n", func(o *pb.ExecOp) { o.Meta.User = "app" }},
		{"numeric user", "id -u; id -g", "7\n8\n", func(o *pb.ExecOp) { o.Meta.User = "7:8" }},
		{"hostname", "hostname", "builder\n", func(o *pb.ExecOp) { o.Meta.Hostname = "builder" }},
		{"ulimit", "ulimit -n", "77\n", func(o *pb.ExecOp) { o.Meta.Ulimit = []*pb.Ulimit{{Name: "nofile", Soft: 77, Hard: 78}} }},
		{"proxy", "echo $HTTP_PROXY $http_proxy $no_proxy", "mine http://p n\n", func(o *pb.ExecOp) {
			o.Meta.Env = []string{"HTTP_PROXY=mine", "PATH=/bin"}
			o.Meta.ProxyEnv = &pb.ProxyEnv{HttpProxy: "http://p", NoProxy: "n"}
		}},
		{"exit codes", "exit 3", "", func(o *pb.ExecOp) { o.Meta.ValidExitCodes = []int32{0, 3} }},
		{"shm", "mount | grep -c 'on /dev/shm type tmpfs .*size=65536k'", "1\n", nil},
		{"sandbox", "mount -t tmpfs x /tmp 2>/dev/null || echo refused", "refused\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.request(c.script)
			if c.set != nil {
				c.set(q.Op)
			}
			w.want(q, c.out)
		})
	}
	w.leftovers()
}

func TestSecurityAndNetwork(t *testing.T) {
	w := newWorld(t)
	q := w.request("mount -t tmpfs x /tmp && echo mounted")
	q.Op.Security = pb.SecurityMode_INSECURE
	if _, _, err := w.run(q); !errdefs.IsPermissionDenied(err) {
		t.Errorf("insecure without the entitlement: %v", err)
	}
	q.Insecure = true
	w.want(q, "mounted\n")
	q = w.request("echo net")
	q.Op.Network = pb.NetMode_HOST
	if _, _, err := w.run(q); !errdefs.IsPermissionDenied(err) {
		t.Errorf("host network without the entitlement: %v", err)
	}
	q.HostNetwork = true
	w.want(q, "net\n")
	w.leftovers()
}

func TestFailure(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		tail string
	}{
		{"status", []string{"/bin/sh", "-c", "echo one; echo two >&2; exit 9"}, 9, "one\ntwo\n"},
		{"signal", []string{"/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137, ""},
		{"long output", []string{"/bin/sh", "-c", "dd if=/dev/zero bs=1000 count=100 2>/dev/null | tr '\\0' x; echo end; exit 1"}, 1, "end\n"},
		{"no program", []string{"/bin/nosuch"}, 127, "not found"},
		{"not executable", []string{"/etc/passwd"}, 126, "denied"},
		{"shell that is missing", []string{"/bin/bash", "-c", "x"}, 127, "/bin/sh is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.request("")
			q.Op.Meta.Args = c.args
			_, made, err := w.run(q)
			var x *ExitError
			if !errors.As(err, &x) || x.Code != c.code || !strings.Contains(x.Tail, c.tail) || len(x.Tail) > tailSize {
				t.Errorf("%v, %+v", err, x)
			}
			if made != nil {
				t.Error(made)
			}
			w.leftovers()
		})
	}
}

// slow is a reader of output that takes its time.
type slow struct{ bytes.Buffer }

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.Buffer.Write(p)
}

func TestOutputIsComplete(t *testing.T) {
	w := newWorld(t)
	q := w.request("dd if=/dev/zero bs=65536 count=64 2>/dev/null")
	var out slow
	q.Output = &out
	_, err := w.runner.Run(t.Context(), q)
	w.ok(err)
	if out.Len() != 64<<16 {
		t.Errorf("%d bytes", out.Len())
	}
}

// first signals the first write.
type first struct{ seen chan struct{} }

func (f *first) Write(p []byte) (int, error) {
	select {
	case <-f.seen:
	default:
		close(f.seen)
	}
	return len(p), nil
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	q := w.request("echo begun; sleep 60")
	begun := &first{make(chan struct{})}
	q.Output = begun
	go func() {
		<-begun.seen
		cancel(why)
	}()
	started := time.Now()
	if _, err := w.runner.Run(ctx, q); !errors.Is(err, why) {
		t.Error(err)
	}
	if d := time.Since(started); d > 10*time.Second {
		t.Error("took", d)
	}
	w.leftovers()
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	foreign := &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	for name, c := range map[string]struct {
		change func(*Request)
		is     func(error) bool
	}{
		"no root":      {func(q *Request) { q.Mounts = nil }, errdefs.IsInvalidArgument},
		"no command":   {func(q *Request) { q.Op.Meta.Args = nil }, errdefs.IsInvalidArgument},
		"id":           {func(q *Request) { q.ID = "../../x" }, errdefs.IsInvalidArgument},
		"device":       {func(q *Request) { q.Op.CdiDevices = []*pb.CDIDevice{{Name: "v/c=d"}} }, errdefs.IsInvalidArgument},
		"no such user": {func(q *Request) { q.Op.Meta.User = "nobody-knows" }, func(err error) bool { return err != nil }},
		"platform": {func(q *Request) { q.Platform = foreign }, func(err error) bool {
			return emulator(binfmtDir, "s390x") != "" || errdefs.IsFailedPrecondition(err)
		}},
		"windows": {func(q *Request) { q.Platform = &ocispec.Platform{OS: "windows", Architecture: "amd64"} }, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			q := w.request("true")
			c.change(&q)
			if _, _, err := w.run(q); !c.is(err) {
				t.Error(err)
			}
			w.leftovers()
		})
	}
}

// TestSweep is a daemon that was killed in the middle of a step: the next one ends the step.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	l := w.layer("f", "x")
	q := w.request("echo begun; sleep 60", bind("/mnt", "", noOutput, false, l), secretMount("/s", "token", false),
		Mount{Mount: &pb.Mount{Dest: "/ctx", Output: noOutput}, Source: Source{Local: &Local{Dir: t.TempDir()}}})
	q.Secrets = secrets
	begun := &first{make(chan struct{})}
	q.Output = begun
	done := make(chan error, 1)
	go func() {
		_, err := w.runner.Run(context.WithoutCancel(t.Context()), q)
		done <- err
	}()
	<-begun.seen
	next, err := open(t.Context(), w.config, w.config.Tasks, w.wires)
	w.ok(err)
	if err := <-done; err == nil {
		t.Error("a step that was killed has succeeded")
	}
	w.leftovers()
	w.runner = next
	w.want(w.request("echo again"), "again\n")
}

func TestOutOfMemory(t *testing.T) {
	w := newWorld(t)
	group := "/sys/fs/cgroup/memory" + w.config.CgroupParent
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Skip("needs the memory controller of control groups, version 1:", err)
	}
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte("16777216"), 0o600); err != nil {
		t.Skip("needs the memory controller of control groups, version 1:", err)
	}
	_, _, err := w.run(w.request("dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?"))
	var x *ExitError
	if !errors.As(err, &x) || x.Code != 137 || !x.OOMKilled || !strings.Contains(err.Error(), "memory") {
		t.Errorf("%v, %+v", err, x)
	}
	w.leftovers()
}
