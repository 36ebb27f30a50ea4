package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestOtherArchitecture runs kist for arm64 on an emulated machine: what differs there is the executor's and the init's
// assembly, the seccomp filter's table, and a kernel of Debian's with version 2 of cgroups.
func TestOtherArchitecture(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-aarch64"); err != nil { // before anything is built for it
		t.Skip("skip: no emulator of arm64 is installed (Debian's package qemu-system-arm)")
	}
	dir := t.TempDir()
	m := testbed.Emulated{}
	for _, name := range []string{"kist", "kistd"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "./cmd/"+name) // as the Makefile's cross
		cmd.Dir, cmd.Env = testbed.Root(), append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m.Programs = append(m.Programs, filepath.Join(dir, name))
	}
	out := m.Run(t, otherArchitecture)
	printed(t, out, map[string]string{
		"built": "aarch64", "exit": "7", "seccomp": "2", "caps": "00000000a80425fb", "forbidden": "refused", "init": "/sbin/docker-init", "term": "143",
		"oom": "137 true", "port": "hello from aarch64", "name": "reached", "exec": "aarch64", "terminal": "/dev/pts/0", "survived": "hello from aarch64",
		"again": "aarch64", "left": "", "doctor": "0 failed",
	})
}

// otherArchitecture prints what it finds as name=value.
const otherArchitecture = `
mkdir -p /tmp/context
cp /bin/busybox /tmp/context/
cat >/tmp/context/Dockerfile <<'END'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir /tmp && uname -m >/arch
CMD ["cat", "/arch"]
END
kist build -q -t box /tmp/context >/dev/null
echo "built=$(kist run --rm box)"
set +e
kist run --rm box sh -c 'exit 7'
echo "exit=$?"
set -e
kist run --rm box grep -E 'Seccomp:|CapEff' /proc/self/status >/tmp/status
echo "seccomp=$(sed -n 's/Seccomp:\s*//p' /tmp/status)"
echo "caps=$(sed -n 's/CapEff:\s*//p' /tmp/status)"
echo "forbidden=$(kist run --rm box unshare -m true >/dev/null 2>&1 && echo allowed || echo refused)"
echo "init=$(kist run --rm --init box readlink /proc/1/exe)"
kist run -d --init --name ends box sleep 1000 >/dev/null
until kist exec ends pidof sleep >/dev/null; do sleep 0.2; done
kist stop ends >/dev/null 2>&1
echo "term=$(kist inspect -f '{{.State.ExitCode}}' ends)"
set +e
kist run --name big -m 20m box sh -c 'x=$(head -c 60000000 /dev/zero | tr "\0" a); echo ${#x}' >/dev/null 2>&1
echo "oom=$? $(kist inspect -f '{{.State.OOMKilled}}' big)"
set -e
kist network create net >/dev/null
kist run -d --name web --network net -p 8080:80 box sh -c 'mkdir /www; echo hello from $(uname -m) >/www/index.html; exec httpd -f -p 80 -h /www' >/dev/null
until wget -qO /dev/null http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.2; done
echo "port=$(wget -qO- http://127.0.0.1:8080/)"
echo "name=$(kist run --rm --network net box ping -c 1 -w 20 web >/dev/null && echo reached)"
echo "exec=$(kist exec web uname -m)"
echo "terminal=$(kist run --rm -t box tty | tr -d '\r')"
kill -9 $(pidof kistd) $(pidof kist)
echo "survived=$(wget -qO- http://127.0.0.1:8080/)"
echo "again=$(kist run --rm box)"
kist rm -f web ends big >/dev/null 2>&1
kist network rm net >/dev/null
echo "left=$(kist ps -aq)"
echo "doctor=$(kist doctor | tail -1 | sed 's/.*, //')"
`
