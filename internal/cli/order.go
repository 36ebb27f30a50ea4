package cli

import (
	"io"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// RunOrder is a run command that asks for nothing that only the client's side has, so that the daemon can carry it out.
type RunOrder struct {
	Name    string
	Detach  bool
	Request *container.CreateRequest
}

// orderly are run's flags that mean the same wherever they are read. All others, and so all flags to come, keep the command at
// the client: those that name its files, terminal, directory or variables, and those with a conversation of their own.
var orderly = []string{
	"add-host", "annotation", "blkio-weight", "cap-add", "cap-drop", "cgroup-parent", "cgroupns", "cpu-period", "cpu-quota",
	"cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems", "detach", "dns", "dns-opt", "dns-option", "dns-search", "domainname",
	"entrypoint", "env", "expose", "group-add", "health-cmd", "health-interval", "health-retries", "health-start-interval",
	"health-start-period", "health-timeout", "hostname", "init", "ip", "ip6", "ipc", "label", "log-driver", "log-opt",
	"mac-address", "memory", "memory-reservation", "memory-swap", "name", "net", "net-alias", "network", "network-alias",
	"no-healthcheck", "oom-kill-disable", "oom-score-adj", "pid", "pids-limit", "privileged", "publish", "read-only", "restart",
	"rm", "shm-size", "stop-signal", "stop-timeout", "sysctl", "tmpfs", "ulimit", "user", "uts", "volume", "workdir",
}

// ReadRun reads the arguments after "run". It does not say what is wrong with them: the client will.
func ReadRun(args []string) (*RunOrder, bool) {
	var f runFlags
	fs := orderFlags("run")
	f.declare(fs)
	if !readOrder(fs, args, 1, orderly) || !f.selfContained() {
		return nil, false
	}
	req, err := f.request(fs, fs.Args(), surroundings{lookup: nowhere})
	if err != nil {
		return nil, false
	}
	if f.detach {
		req.AttachStdin, req.AttachStdout, req.AttachStderr, req.StdinOnce = false, false, false, false
	}
	return &RunOrder{Name: f.name, Detach: f.detach, Request: req}, true
}

// declare adds run's flags, create's among them.
func (f *runFlags) declare(fs *pflag.FlagSet) {
	f.containerFlags.declare(fs)
	fs.BoolVarP(&f.detach, "detach", "d", false, "Do not wait for it; print its id")
	fs.BoolVar(&f.sigProxy, "sig-proxy", true, "Pass signals on to it")
	fs.StringVar(&f.detachKeys, "detach-keys", "", "Keys that leave it running, as in ctrl-p,ctrl-q")
}

// selfContained says that no value refers to the client's variables or directory. Published ports of a container in the
// background are told about on terminals, by the client.
func (f *runFlags) selfContained() bool {
	here := func(s string) bool { return strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~") }
	return whole(f.env.values) && !slices.ContainsFunc(f.volumes.values, here) && (!f.detach || len(f.publish.values) == 0)
}

func nowhere(string) (string, bool) { return "", false }

// whole says that variables have their values with them.
func whole(env []string) bool {
	return !slices.ContainsFunc(env, func(s string) bool { return !strings.Contains(s, "=") })
}

// ExecOrder is the same for exec.
type ExecOrder struct {
	Container string
	Request   container.ExecCreateRequest
}

var orderlyExec = []string{"detach", "env", "privileged", "user", "workdir"}

// ReadExec reads the arguments after "exec".
func ReadExec(args []string) (*ExecOrder, bool) {
	var f execFlags
	fs := orderFlags("exec")
	f.declare(fs)
	if !readOrder(fs, args, 2, orderlyExec) || !whole(f.env.values) {
		return nil, false
	}
	env, err := environment(nil, f.env.values, nil, nowhere)
	if err != nil {
		return nil, false
	}
	r := container.ExecCreateRequest{
		User: f.user, Privileged: f.privileged, Env: env, WorkingDir: f.workdir, Cmd: fs.Args()[1:],
		AttachStdout: !f.detach, AttachStderr: !f.detach,
	}
	return &ExecOrder{Container: fs.Arg(0), Request: r}, true
}

// Detach says that nobody waits for the command.
func (o *ExecOrder) Detach() bool { return !o.Request.AttachStdout }

func orderFlags(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	return fs
}

// readOrder parses arguments, of which there must be some, and says whether all flags among them are allowed.
func readOrder(fs *pflag.FlagSet, args []string, least int, allowed []string) bool {
	if fs.Parse(args) != nil || fs.NArg() < least {
		return false
	}
	ok := true
	fs.Visit(func(f *pflag.Flag) { ok = ok && slices.Contains(allowed, f.Name) })
	return ok
}
