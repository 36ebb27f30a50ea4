package test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// mirrorAddress is where each host finds its mirror: it is written into the image.
const mirrorAddress = "127.0.0.1:8099"

// base is a host with a mirror of Debian, from which an image is made.
type base struct {
	*testbed.Host
	daemon *testbed.Daemon
}

func newBase(t *testing.T, dir string) *base {
	t.Helper()
	b := &base{Host: testbed.NewHost(t)}
	b.daemon = b.StartDaemon()
	var l net.Listener
	err := b.Inside(func() (err error) {
		l, err = net.Listen("tcp", mirrorAddress)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return b
}

// bootstrap makes an image.
func (b *base) bootstrap(args ...string) string {
	return b.Run("kist", append([]string{"image", "bootstrap", "--mirror", "http://" + mirrorAddress}, args...)...)
}

// TestBootstrap makes a base image of Debian's own packages: twice the same one, equal to what debootstrap makes of them, and
// one that apt can go on from.
func TestBootstrap(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root")
	}
	dir, suite, err := testbed.Mirror(t.Context(), "ca-certificates")
	if err != nil {
		t.Skipf("skip: no Debian mirror: %v", err)
	}
	a := newBase(t, dir)
	name := "debian:" + suite
	if out := a.bootstrap("--progress", "plain", name); strings.TrimSpace(out) != name {
		t.Errorf("printed %q", out)
	}
	inspect(t, a, name)
	t.Run("dpkg is content", func(t *testing.T) {
		if out := a.Run("kist", "run", "--rm", "--network", "none", name, "sh", "-c", "dpkg --audit && dpkg -V && dpkg --get-selections | wc -l"); len(strings.Fields(out)) != 1 {
			t.Errorf("dpkg complains:\n%s", out)
		}
	})
	t.Run("apt goes on", func(t *testing.T) {
		out := a.Run("kist", "run", "--rm", "--network", "host", name, "sh", "-c",
			"apt-get -o Acquire::Languages=none update -q && apt-get install -y -q --no-install-recommends ca-certificates && ls /etc/ssl/certs | wc -l && dpkg --audit")
		if !strings.Contains(out, "Setting up ca-certificates") {
			t.Errorf("apt did not install:\n%s", out)
		}
	})
	t.Run("the same anywhere", func(t *testing.T) {
		other := newBase(t, dir)
		other.bootstrap("-q", name)
		const format = "{{.Id}} {{.RepoDigests}} {{.RootFS.Layers}}"
		if x, y := a.Run("kist", "image", "inspect", "-f", format, name), other.Run("kist", "image", "inspect", "-f", format, name); x != y {
			t.Errorf("one store has %s, the other one %s", x, y)
		}
	})
	t.Run("as debootstrap", func(t *testing.T) { asDebootstrap(t, a, name) })
}

func inspect(t *testing.T, b *base, name string) {
	t.Helper()
	var list []struct {
		Config struct {
			Cmd    []string
			Labels map[string]string
		}
		RootFS struct{ Layers []string }
	}
	if err := json.Unmarshal([]byte(b.Run("kist", "image", "inspect", name)), &list); err != nil || len(list) != 1 {
		t.Fatal(err)
	}
	if c := list[0].Config; fmt.Sprint(c.Cmd) != "[bash]" || c.Labels["dev.kist.bootstrap.suite"] == "" || c.Labels["dev.kist.bootstrap.date"] == "" || len(list[0].RootFS.Layers) != 1 {
		t.Errorf("%+v", list[0])
	}
	if out := b.Run("kist", "history", "--no-trunc", name); !strings.Contains(out, "kist image bootstrap --variant minbase") {
		t.Errorf("history:\n%s", out)
	}
}

// differs are paths at which an image differs from debootstrap's tree, on purpose: what depends on the time or the machine,
// what is fetched anew, and what debootstrap takes from its host. Those that end in / are whole directories.
var differs = []string{
	"dev/", "proc/", "sys/", "run/", "tmp/", "var/cache/apt/", "var/lib/apt/lists/", "var/log/", "debootstrap/",
	".dockerenv", "etc/.pwd.lock", "etc/group-", "etc/passwd-", "etc/shadow-", "etc/gshadow-", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf",
	"etc/shadow",           // the day on which passwords were last changed
	"etc/apt/sources.list", // debootstrap leaves it empty for a mirror that is a directory
	"etc/machine-id", "var/cache/ldconfig/aux-cache", "var/cache/debconf/",
	"var/lib/dpkg/available", "var/lib/dpkg/cmethopt", // of dselect
	"var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old",
}

func asDebootstrap(t *testing.T, b *base, name string) {
	t.Helper()
	theirs, err := testbed.Debootstrapped(t.Context(), "ca-certificates")
	if err != nil {
		t.Skipf("skip: cannot run debootstrap: %v", err)
	}
	ours := filepath.Join(b.Dir, "ours")
	b.Run("kist", "create", "--name", "exported", name)
	b.Run("sh", "-c", fmt.Sprintf("mkdir %s && kist export exported | tar -x --numeric-owner -C %s", ours, ours))
	x, y := contents(t, ours), contents(t, theirs)
	for path, what := range x {
		if !excused(path) && y[path] != what {
			t.Errorf("/%s is %s, debootstrap's %s", path, what, y[path])
		}
	}
	for path, what := range y {
		if !excused(path) && x[path] == "" {
			t.Errorf("/%s is missing: debootstrap's is %s", path, what)
		}
	}
	if len(x) < 5000 {
		t.Errorf("only %d files", len(x))
	}
}

func excused(path string) bool {
	for _, d := range differs {
		if path == d || strings.HasSuffix(d, "/") && strings.HasPrefix(path+"/", d) {
			return true
		}
	}
	return false
}

// contents describes each file of a tree.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st, _ := fi.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d:%d ", fi.Mode(), st.Uid, st.Gid)
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += target
		case fi.Mode().IsRegular() && strings.HasSuffix(path, "var/lib/dpkg/status"):
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += sortedStanzas(string(raw))
		case fi.Mode().IsRegular():
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf("%d bytes %x", len(raw), sha256.Sum256(raw))
		}
		all[strings.TrimPrefix(path, root+"/")] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sortedStanzas is dpkg's database whatever the order of its packages.
func sortedStanzas(text string) string {
	parts := strings.Split(strings.TrimSpace(text), "\n\n")
	sort.Strings(parts)
	return strings.Join(parts, "\n\n")
}
