package test

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kistdev/kist/internal/testbed"
)

func failures() []failure {
	return append(append(append(runFailures(), storeFailures()...), objectFailures()...), daemonFailures()...)
}

func runFailures() []failure {
	mount := []string{"run", "--rm", "-v", "@/bin:/x", bb}
	in := func(program string) []string { return append(mount[:len(mount):len(mount)], "/x/"+program) }
	return []failure{
		{name: "shell missing", args: []string{"run", "--rm", bb, "bash"}, exit: 127, code: "exec-not-found", first: `bash is not in this image; sh is`},
		{name: "program missing", args: []string{"run", "--rm", bb, "nosuch"}, exit: 127, code: "exec-not-found", first: `nosuch is not in this image`},
		{name: "no execute bit", args: in("locked"), exit: 126, code: "exec-not-executable", first: `not executable, its mode is 0644`},
		{name: "a directory", args: []string{"run", "--rm", bb, "/etc"}, exit: 126, code: "exec-is-directory", first: `/etc is a directory`},
		{name: "no #! line", args: in("plain"), exit: 126, code: "exec-format", first: `/x/plain has no #! line`},
		{name: "CRLF", args: in("crlf"), exit: 127, code: "exec-no-loader", first: `/x/crlf has CRLF line ends`},
		{name: "empty file", args: in("empty"), exit: 126, code: "exec-format", first: `/x/empty is empty`},
		{name: "interpreter missing", args: in("python"), exit: 127, code: "exec-no-loader", first: `a script for /usr/bin/python3, which is not in this image`},
		{name: "loader missing", args: []string{"run", "--rm", "foreign", "/tool"}, exit: 127, code: "exec-no-loader", first: `/tool needs the loader /lib.*, which is not in this image`},
		{name: "other architecture", args: in("foreign"), exit: 126, code: "exec-wrong-architecture", first: `/x/foreign is a...., this host is ` + runtime.GOARCH},
		{name: "working directory", args: []string{"run", "--rm", "-w", "/etc/passwd", bb, "true"}, exit: 125, code: "exec-no-directory", first: `/etc/passwd is a file`},
		{name: "port of a program", args: []string{"run", "--rm", "-p", "127.0.0.1:5050:80", bb, "true"}, exit: 125, code: "port-in-use", first: `127.0.0.1:5050: the port is in use`, says: `held by perl \(pid \d+\)\ntry:   5051 is free`},
		{name: "port of a container", args: []string{"run", "--rm", "-p", "8080:80", bb, "true"}, exit: 125, code: "port-in-use", first: `8080: the port is in use`, says: `held by container web\ntry:   8081 is free`},
		{name: "address not here", args: []string{"run", "--rm", "-p", "192.0.2.1:80:80", bb, "true"}, exit: 125, code: "address-not-here", first: `this host has no such address`},
		{name: "port number", args: []string{"run", "--rm", "-p", "99999:80", bb, "true"}, exit: 125, code: "bad-flag", first: `invalid hostPort: 99999`},
		{name: "name taken", args: []string{"run", "--name", "web", bb, "true"}, exit: 125, code: "name-in-use", first: `"web" is already in use by container .*, which is running`},
		{name: "network misspelt", args: []string{"run", "--rm", "--network", "bakend", bb, "true"}, exit: 125, code: "no-such-network", first: `network bakend not found`, says: `did you mean backend\?`},
		{name: "address outside", args: []string{"run", "--rm", "--network", "backend", "--ip", "10.81.0.5", bb, "true"}, exit: 125, code: "address-outside", first: `10.81.0.5: it is outside of the network's subnet`},
		{name: "volume driver", args: []string{"run", "--rm", "--volume-driver", "nfs", "-v", "x:/x", bb, "true"}, exit: 125, code: "volume-driver-unknown", first: `plugin "nfs" not found`},
		{name: "bind source missing", args: []string{"run", "--rm", "--mount", "type=bind,src=/nosuch,dst=/x", bb, "true"}, exit: 125, code: "bind-source-missing", first: `bind source path does not exist: /nosuch`},
		{name: "too little memory", args: []string{"run", "--rm", "-m", "1m", bb, "true"}, exit: 125, code: "memory-minimum", first: `Minimum memory limit allowed is 6MB`},
		{name: "too many processors", args: []string{"run", "--rm", "--cpus", "4096", bb, "true"}, exit: 125, code: "cpus-range", first: `there are only \d+ CPUs`},
		{name: "user unknown", args: []string{"run", "--rm", "-u", "nobodyhere", bb, "true"}, exit: 125, code: "user-unknown", first: `unable to find user nobodyhere`},
		{name: "device missing", args: []string{"run", "--rm", "--device", "/dev/nosuch", bb, "true"}, exit: 125, code: "device-missing", first: `this host has no /dev/nosuch`},
		{name: "capability unknown", args: []string{"run", "--rm", "--cap-add", "NOSUCH", bb, "true"}, exit: 125, code: "capability-unknown", first: `unknown capability: "CAP_NOSUCH"`},
		{name: "flag misspelt", args: []string{"run", "--memry", "1g", bb}, exit: 125, code: "unknown-flag", first: `unknown flag: --memry`, says: `did you mean --memory\?`},
		{name: "command misspelt", args: []string{"pss"}, exit: 1, code: "unknown-command", first: `no command "pss"`, says: `did you mean kist ps\?`},
		{
			name: "out of memory", run: inspected("hungry"), code: "out-of-memory", first: `killed by the kernel: out of memory, over its limit of 16M \(peak 16M\) at \d\d:\d\d:\d\d`,
			before: func(m *failing) {
				if _, _, code := m.kist("run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", bb, "tail", "/dev/zero"); code != 137 {
					m.t.Errorf("the hungry one ended with %d", code)
				}
			},
		},
		{
			name: "stop timed out", run: inspected("stubborn"), code: "stop-timeout", first: `it had not ended within 0s of SIGTERM`,
			before: func(m *failing) {
				m.ok("run", "-d", "--name", "stubborn", bb, "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.1; done`)
				m.eventually("ready", "logs", "stubborn")
				m.ok("stop", "-t", "0", "stubborn")
			},
		},
		{
			name: "killed from outside", run: inspected("victim"), code: "signalled", first: `SIGKILL from outside the container: not by kist`,
			before: func(m *failing) {
				m.ok("run", "-d", "--name", "victim", bb, "sleep", "1000")
				m.host.Run("kill", "-9", strings.TrimSpace(m.ok("inspect", "-f", "{{.State.Pid}}", "victim")))
				m.ok("wait", "victim")
			},
		},
		{
			name: "unhealthy", run: inspected("sick"), code: "unhealthy", first: `its health check failed and ended with status 1: "not well"`,
			before: func(m *failing) {
				m.ok("run", "-d", "--name", "sick", "--restart", "on-failure:1", "--health-cmd", "echo not well; false", "--health-interval", "100ms",
					"--health-retries", "1", bb, "sleep", "1000")
				m.eventually("^1$", "inspect", "-f", "{{.RestartCount}}", "sick")
			},
			after: kistOK("rm", "-f", "sick"),
		},
	}
}

func storeFailures() []failure {
	return []failure{
		{name: "image misspelt", args: []string{"run", "--rm", "--pull", "never", "kist.test/busybx", "true"}, exit: 125, code: "no-such-image", first: `No such image: kist.test/busybx`, says: `did you mean kist.test/busybox`},
		{name: "image not here", args: []string{"rmi", "kist.test/busybx"}, exit: 1, code: "image-not-found", first: `No such image: kist.test/busybx`},
		{name: "tag missing", args: []string{"pull", at5000 + "/app:9"}, exit: 1, code: "tag-not-found", first: `app:9 not found: the repository has no such tag`, says: `tags: 1.0, 1.1`},
		{name: "repository missing", args: []string{"pull", at5000 + "/ap:1"}, exit: 1, code: "repository-not-found", first: `repository 127.0.0.1:5000/ap does not exist`, says: `app`},
		{name: "private repository", args: []string{"pull", privateRegistry + "/app"}, exit: 1, code: "registry-login-needed", first: `access to .* denied: nobody is logged in`},
		{name: "rate limit", args: []string{"pull", limitedRegistry + "/app"}, exit: 1, slow: true, code: "registry-rate-limit", first: `too many requests`},
		{name: "registry out of order", args: []string{"pull", brokenRegistry + "/app"}, exit: 1, slow: true, code: "registry-unavailable", first: `registry ` + brokenRegistry + ` is out of order`},
		{name: "registry refuses", args: []string{"pull", "127.0.0.1:1/app"}, exit: 1, code: "registry-refused", first: `127.0.0.1:1: the connection is refused`},
		{name: "registry's name", args: []string{"pull", "nosuch.invalid/app"}, exit: 1, slow: true, code: "registry-no-dns", first: `nosuch.invalid: no name server answers`},
		{name: "unknown authority", args: []string{"pull", tlsRegistry + "/app:1.0"}, exit: 1, code: "registry-unknown-ca", first: `signed by an unknown authority`, says: `(?s)Chest Authority.*try:.*/etc/kist/certs.d/10.99.0.1:5443/ca.crt`},
		{name: "plain HTTP", args: []string{"pull", plainRegistry + "/app:1.0"}, exit: 1, code: "registry-plain-http", first: `it speaks plain HTTP`},
		{name: "wrong password", args: []string{"login", "-u", "me", "-p", "wrong", privateRegistry}, exit: 1, code: "registry-login-refused", first: `login to .* failed: wrong name or password`},
		{name: "capital letters", args: []string{"pull", at5000 + "/App"}, exit: 1, code: "invalid-reference", first: `must be lowercase`},
		{name: "platform", args: []string{"run", "--rm", "--pull", "never", "--platform", "linux/s390x", bb}, exit: 125, code: "no-such-platform", first: `does not provide the specified platform \(linux/s390x\)`},
		{name: "push of nothing", args: []string{"push", "nosuch"}, exit: 1, code: "image-not-found", first: `does not exist locally with the tag: nosuch`},
		{name: "no archive", args: []string{"load", "-i", "@/words.txt"}, exit: 1, code: "not-an-archive", first: `this is no image archive`},
		{name: "archive cut off", args: []string{"load", "-i", "@/cut.tar"}, exit: 1, code: "archive-cut-off", first: `the archive is cut off`},
		{name: "archive missing", args: []string{"load", "-i", "@/nosuch.tar"}, exit: 1, code: "file-not-found", first: `nosuch.tar: no such file`},
		{name: "import of no tar", args: []string{"import", "@/words.txt"}, exit: 1, code: "layer-corrupt", first: `corrupt`},
		{name: "image in use", args: []string{"rmi", bb}, exit: 1, code: "image-in-use", first: `container .* is using its referenced image`},
		{name: "no Dockerfile", args: []string{"build", "@/empty"}, exit: 1, code: "no-dockerfile", first: `no Dockerfile in`},
		{name: "no build directory", args: []string{"build", "@/nosuch"}, exit: 1, code: "no-context", first: `there is no directory`},
		{name: "Dockerfile's language", args: []string{"build", "@/typo"}, exit: 1, code: "build-dockerfile", first: `line 2: unknown instruction: RUM`},
		{name: "COPY of nothing", args: []string{"build", "@/copy"}, exit: 1, code: "path-not-found", first: `"/missing.txt": not found`},
		{name: "build step", args: []string{"build", "@/step"}, exit: 1, code: "build-step-failed", first: `RUN nosuchtool failed with exit code 127`},
	}
}

func objectFailures() []failure {
	return []failure{
		{name: "container misspelt", args: []string{"logs", "webb"}, exit: 1, code: "no-such-container", first: `No such container: webb`, says: `did you mean web\?`},
		{name: "exec, not running", args: []string{"exec", "idle", "ls"}, exit: 1, code: "container-not-running", first: `container idle is not running`, says: `it was never started\ntry:   kist start idle`},
		{name: "exec, program missing", args: []string{"exec", "web", "bash"}, exit: 127, code: "exec-not-found", first: `bash is not in this image; sh is`},
		{name: "cp, path missing", args: []string{"cp", "web:/nosuch", "@/"}, exit: 1, code: "path-not-in-container", first: `there is no /nosuch in container web`},
		{name: "cp, file missing", args: []string{"cp", "@/nosuch", "web:/"}, exit: 1, code: "file-not-found", first: `nosuch: no such file`},
		{name: "rm of a running one", args: []string{"rm", "web"}, exit: 1, code: "container-running", first: `container is running`},
		{name: "unpause", args: []string{"unpause", "web"}, exit: 1, code: "container-not-paused", first: `web is not paused`},
		{name: "port not published", args: []string{"port", "web", "81"}, exit: 1, code: "port-not-published", first: `no public port '81/tcp'`},
		{name: "volume misspelt", args: []string{"volume", "rm", "dat"}, exit: 1, code: "no-such-volume", first: `get dat: no such volume`, says: `did you mean data\?`},
		{name: "volume in use", args: []string{"volume", "rm", "data"}, exit: 1, code: "volume-in-use", first: `volume is in use`},
		{name: "network in use", args: []string{"network", "rm", "backend"}, exit: 1, code: "network-in-use", first: `backend: containers use it`},
		{name: "network's subnet", args: []string{"network", "create", "--subnet", "10.80.0.0/16", "more"}, exit: 1, code: "subnet-overlap", first: `10.80.0.0/16: it overlaps another`},
		{name: "connect twice", args: []string{"network", "connect", "nosuch", "web"}, exit: 1, code: "no-such-network", first: `network nosuch not found`},
		{name: "inspect of nothing", args: []string{"inspect", "nosuch"}, exit: 1, code: "not-found", first: `no such object: nosuch`},
		{name: "too few arguments", args: []string{"tag", "x"}, exit: 1, code: "bad-usage", first: `requires 2 arguments`},
	}
}

func daemonFailures() []failure {
	return []failure{
		{name: "wrong socket", args: []string{"-H", "unix:///nosuch.sock", "ps"}, exit: 1, code: "daemon-wrong-socket", first: `unix:///nosuch.sock: there is no such socket`},
		{name: "nothing listens", args: []string{"-H", "tcp://127.0.0.1:9", "ps"}, exit: 1, code: "daemon-not-running", first: `tcp://127.0.0.1:9: nothing listens there`},
		{name: "no host", args: []string{"-H", "foo://", "ps"}, exit: 1, code: "bad-host", first: `"foo://" is not a host`},
		{
			name: "not running", exit: 1, code: "daemon-not-running", first: `no daemon is running`,
			run: func(m *failing) (string, int) {
				return m.kistWith(m.roots("second", "second-run"), "--no-autostart", "ps")
			},
		},
		{
			name: "no permission", exit: 1, code: "daemon-no-permission", first: `this user may not open the socket`,
			run: func(m *failing) (string, int) {
				cmd := m.host.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", filepath.Join(testbed.Bin(), "kist"), "ps")
				m.host.Run("chmod", "755", filepath.Dir(m.host.Socket()), m.dir)
				var e bytes.Buffer
				cmd.Stderr = &e
				_ = cmd.Run() // Its exit code is what counts.
				return e.String(), cmd.ProcessState.ExitCode()
			},
		},
		{name: "daemon.json, no JSON", run: startsWith("bad.json"), exit: 1, code: "daemon-config", first: `/etc/kist/daemon.json is no JSON`, says: `line 4, column 1`},
		{name: "daemon.json, unknown key", run: startsWith("unknown.json"), exit: 1, code: "daemon-config", first: `unknown key "registry-mirors"`, says: `did you mean "registry-mirrors"\?`},
		{name: "daemon.json, wrong kind", run: startsWith("kind.json"), exit: 1, code: "daemon-config", first: `the key "hosts" .* wrong kind`},
		{
			name: "two daemons", exit: 1, code: "daemon-root-in-use", first: `data is in use by another kistd \(pid \d+\)`,
			run: func(m *failing) (string, int) { return m.kistWith(m.roots("data", "other-run"), "ps") },
		},
		{
			name: "root is a file", exit: 1, code: "daemon-data-root", first: `a file is in the way of its directory`,
			run: func(m *failing) (string, int) { return m.kistWith(m.roots("words.txt/data", "other-run"), "ps") },
		},
		{
			name: "socket's path", exit: 1, code: "daemon-socket-path", first: `the path of its socket is too long`,
			run: func(m *failing) (string, int) {
				return m.kistWith(m.roots("second", strings.Repeat("long/", 30)), "ps")
			},
		},
		{name: "disk full at start", run: mountedAt("-t", "tmpfs", "-o", "size=16k"), exit: 1, code: "disk-full", first: `no space left`},
		{name: "disk read-only", run: mountedAt("-t", "tmpfs", "-o", "ro"), exit: 1, code: "daemon-data-root", first: `read-only`},
		{
			name: "file system", exit: 1, code: "daemon-data-root", first: `a container's root cannot be made in .* \(overlay\)`,
			before: func(m *failing) {
				m.host.Run("mkdir", "-p", filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work"))
			},
			run: mountedAt("-t", "overlay", "-o", "lowerdir=/usr/share,upperdir=@/upper,workdir=@/work"),
		},
		{
			name: "port of the daemon", exit: 1, code: "daemon-socket-in-use", first: `tcp://127.0.0.1:5050 is in use by perl \(pid \d+\)`,
			run: func(m *failing) (string, int) {
				cmd := m.host.Command("kistd", "-H", "tcp://127.0.0.1:5050", "--bridge", "none", "--data-root", filepath.Join(m.dir, "third"), "--exec-root", filepath.Join(m.dir, "third-run"))
				var e bytes.Buffer
				cmd.Stderr = &e
				_ = cmd.Run() // Its exit code is what counts.
				return e.String(), cmd.ProcessState.ExitCode()
			},
		},
		{
			name: "disk full", exit: 1, code: "disk-full", first: `no space left on device`,
			run: func(m *failing) (string, int) {
				at := filepath.Join(m.dir, "small")
				m.host.Run("mkdir", "-p", at)
				m.host.Run("mount", "-t", "tmpfs", "-o", "size=2m", "none", at)
				said, code := m.kistWith(m.roots("small/data", "small-run"), "import", "--message", "x", filepath.Join(m.dir, "large.tar"), "large")
				return said, code
			},
			before: func(m *failing) {
				m.host.Run("tar", "-cf", filepath.Join(m.dir, "large.tar"), "-C", testbed.Bin(), "kist")
			},
		},
	}
}
