package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/testbed"
)

// pack makes the Debian package of the programs under test, without compression, which would take the most of a minute.
func pack(t *testing.T, version string) string {
	t.Helper()
	need(t, "dpkg-deb")
	for _, name := range []string{"kist", "kistd", "kist-compose"} {
		if _, err := os.Stat(filepath.Join(testbed.Bin(), name)); err != nil {
			t.Skip("skip: bin/" + name + " is not built; run make build")
		}
	}
	cmd := exec.Command("../scripts/deb")
	cmd.Env = append(os.Environ(), "BIN="+testbed.Bin(), "OUT="+t.TempDir(), "COMPRESS=none", "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	return strings.TrimSpace(string(out))
}

func TestPackage(t *testing.T) {
	first, again := pack(t, "1.0-rc1"), pack(t, "1.0-rc1")
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(again); err != nil || !bytes.Equal(a, b) {
		t.Errorf("two packages of the same programs differ: %v", err)
	}
	if want := "kist_1.0+rc1_"; !strings.HasPrefix(filepath.Base(first), want) {
		t.Errorf("%s, want %s...", first, want)
	}
	out, err := exec.Command("dpkg-deb", "-c", first).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-rwxr-xr-x root/root", "./usr/bin/kist\n", "./usr/bin/kistd\n", "./usr/bin/kist-compose\n", "./usr/share/man/man1/kist.1.gz", "./usr/share/man/man1/kist-image-ls.1.gz",
		"./usr/share/man/man1/kist-compose-up.1.gz", "./usr/share/man/man8/kistd.8.gz", "./usr/share/bash-completion/completions/kist\n", "./usr/share/zsh/vendor-completions/_kist\n",
		"./usr/share/fish/vendor_completions.d/kist.fish\n", "./usr/lib/systemd/system/kist.socket\n", "./usr/share/doc/kist/copyright\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if out, err := exec.Command("dpkg-deb", "-f", first, "Depends").Output(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("it depends on %s, %v", out, err)
	}
	lifeOfPackage(t, first)
}

func TestUnits(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"kist.socket", "kist.service"} {
		raw, err := os.ReadFile("../packaging/" + name)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.ReplaceAll(raw, []byte("@BINDIR@"), []byte(testbed.Bin()))
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(files[len(files)-1], raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "kist") {
		t.Errorf("%v: %s", err, out)
	}
}

// enterRoot makes a directory the root of everything, as it is on a machine of its own, and runs a script there.
const enterRoot = `set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mkdir -p old
mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev; mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs dev/shm
pivot_root . old
umount -l /old
unset KIST_HOST DOCKER_HOST DOCKER_CONFIG KIST_DATA_ROOT KIST_EXEC_ROOT
PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root exec sh /script`

// packageScript installs, upgrades, removes and purges while a container runs.
const packageScript = `
say() { echo "$*"; }
dpkg -i /1.deb >/dev/null && say installed
kist load -q -i /busybox.tar >/dev/null
kist run -d --name web --restart always kist.test/busybox sh -c 'while :; do echo x >>/log; sleep 0.1; done' >/dev/null
pid=$(kist inspect -f '{{.State.Pid}}' web); first=$(cat /run/kist/kistd.pid)
dpkg -i /1.deb >/dev/null && say upgraded
second=$(cat /run/kist/kistd.pid)
[ $first != $second ] && say another daemon
[ "$(kist inspect -f '{{.State.Pid}} {{.RestartCount}}' web)" = "$pid 0" ] && say the same container
kist exec web test -s /log && say it works
dpkg -r kist 2>&1 >/dev/null | grep -c 'go on without a daemon (1 of them)'
[ -d /proc/$pid ] && [ ! -d /proc/$second ] && say the container goes on alone
dpkg -i /1.deb >/dev/null
[ "$(kist inspect -f '{{.State.Pid}}' web)" = $pid ] && say taken over
kist rm -f web >/dev/null
kist rmi -f kist.test/busybox >/dev/null
dpkg -P kist 2>&1 >/dev/null | grep -c 'var/lib/kist stays'
[ ! -e /usr/bin/kist ] && [ ! -e /etc/kist ] && say purged
ip link 2>/dev/null | grep -c kist0
true
`

// lifeOfPackage installs the package on a Debian of its own, with another one over it, and takes it away.
func lifeOfPackage(t *testing.T, deb string) {
	t.Helper()
	m := newMachine(t)
	root := filepath.Join(m.host.Dir, "root")
	unpackImage(t, testbed.Debian.MustArchive(t), root)
	for name, from := range map[string]string{"1.deb": deb, "busybox.tar": testbed.Busybox.MustArchive(t)} {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The containers' cgroups are the test's, which removes them.
	conf, err := json.Marshal(map[string]string{"cgroup-parent": m.host.Cgroup()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc", "kist"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"etc/kist/daemon.json": string(conf), "script": strings.Replace(packageScript, "dpkg -P", "rm -f /etc/kist/daemon.json; dpkg -P", 1)} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := m.host.Try("unshare", "-m", "bash", "-c", enterRoot, "enter", root)
	want := "installed\nupgraded\nanother daemon\nthe same container\nit works\n1\nthe container goes on alone\ntaken over\n1\npurged\n"
	if err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}

// unpackImage unpacks an archive's first image.
func unpackImage(t *testing.T, archive, root string) {
	t.Helper()
	layout := t.TempDir()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
			t.Fatalf("tar %v: %v: %s", args, err, out)
		}
	}
	run("-xf", archive, "-C", layout)
	blob := func(d ocispec.Descriptor) string {
		return filepath.Join(layout, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
	}
	var index ocispec.Index
	var manifest ocispec.Manifest
	for _, f := range []struct {
		path func() string
		into func([]byte) error
	}{
		{func() string { return filepath.Join(layout, "index.json") }, func(b []byte) error { return json.Unmarshal(b, &index) }},
		{func() string { return blob(index.Manifests[0]) }, func(b []byte) error { return json.Unmarshal(b, &manifest) }},
	} {
		raw, err := os.ReadFile(f.path())
		if err == nil {
			err = f.into(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range manifest.Layers {
		run("-xf", blob(l), "-C", root)
	}
}
