package bootstrap

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/testbed"
)

// system is a small distribution.
func system() []deb {
	essential := "Essential: yes"
	return []deb{
		{
			name: "base-files", fields: []string{essential, "Priority: required", "Section: admin"},
			files: []tar.Header{
				directory("./etc/", 0o755), directory("./tmp/", 0o1777), directory("./var/mail/", 0o2775), directory("./bin/", 0o755),
				file("./etc/issue", "hello\n"), file("./etc/machine-id", "0123\n"), file("./var/log/some.log", "x"),
			},
			control: map[string]string{"conffiles": "/etc/issue\n", "md5sums": "whatever\n"},
		},
		{
			name: "shell", fields: []string{essential, "Priority: required", "Depends: libc"}, packing: "zstd",
			files:   []tar.Header{directory("./bin/", 0o755), file("./bin/sh", "#!"), {Name: "./bin/bash", Typeflag: tar.TypeLink, Linkname: "./bin/sh"}, {Name: "./bin/dash", Typeflag: tar.TypeSymlink, Linkname: "sh"}},
			control: map[string]string{"preinst": "#!/bin/sh\nset -e\n# nothing but helpers\ndpkg-maintscript-helper rm_conffile /x 1~ -- \"$@\"\n", "postinst": "#!/bin/sh\n"},
		},
		{
			name: "libc", fields: []string{"Multi-Arch: same", "Priority: optional"}, packing: "plain",
			files:   []tar.Header{directory("./lib/", 0o755), directory("./lib/x/", 0o755), file("./lib/x/libc.so.6", "ELF"), directory("./var/mail/", 0o700)},
			control: map[string]string{"preinst": "#!/bin/sh\necho something\n", "triggers": "# t\ninterest-noawait ldconfig\ninterest /usr/share/x\nactivate y\n"},
		},
		{name: "apt", fields: []string{"Priority: important"}, files: []tar.Header{directory("./etc/apt/", 0o755), file("./usr/bin/apt", "a")}},
		{name: "extra", fields: []string{"Depends: shell", "Priority: optional", "Replaces: apt"}, files: []tar.Header{file("./usr/bin/apt", "mine"), {Name: "./run/pipe", Typeflag: tar.TypeFifo, Mode: 0o600}}},
		{name: "diverts", control: map[string]string{"preinst": "#!/bin/sh\ndpkg-divert --add /x\n"}, files: []tar.Header{file("./usr/bin/diverted", "d")}},
	}
}

// tree lists what an image has: "MODE OWNER PATH CONTENT".
func (w *world) tree(name string) map[string]string {
	w.t.Helper()
	img, err := w.images.Get(context.Background(), name)
	w.ok(err)
	var b bytes.Buffer
	w.ok(w.layers.WriteTar(context.Background(), img.Layers[0], &b))
	all := map[string]string{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		w.ok(err)
		data, _ := io.ReadAll(r)
		all[strings.TrimSuffix(h.Name, "/")] = fmt.Sprintf("%c %o %d:%d %s%s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, data)
		if h.ModTime.After(time.Now().Add(-time.Hour)) {
			w.t.Errorf("%s is from %s", h.Name, h.ModTime)
		}
	}
}

func TestMake(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	res, err := w.make(m, func(r *bootmsg.Request) { r.Include = []string{"extra"} })
	w.ok(err)
	if len(res.Packages) != 5 || res.Name != "any:test" || res.ID == "" || res.Suite != "test" || !strings.Contains(res.Signer, "archive@example.org") {
		t.Errorf("%+v", res)
	}
	got := w.tree("any:test")
	for path, want := range map[string]string{
		"bin": "2 777 0:0 usr/bin", "lib": "2 777 0:0 usr/lib", "usr/bin/dash": "2 777 0:0 sh", "usr/bin/sh": "1 644 0:0 usr/bin/bash", "usr/bin/bash": "0 644 0:0 #!",
		"usr/lib/x/libc.so.6": "0 644 0:0 ELF", "tmp": "5 1777 0:0 ", "var/mail": "5 2775 0:0 ", "etc/machine-id": "0 444 0:0 ", "usr/bin/apt": "0 644 0:0 mine",
		"etc/issue": "0 644 0:0 hello\n", "var/lib/dpkg/info/apt.list": "0 644 0:0 /.\n/etc/apt\n", "var/lib/dpkg/info/extra.md5sums": "0 644 0:0 550afbd1ff3cba6de73b3a9c20bd3bf7  usr/bin/apt\n",
		"var/lib/dpkg/triggers/ldconfig": "0 644 0:0 libc:" + nativeArch() + "/noawait\n", "var/lib/dpkg/triggers/File": "0 644 0:0 /usr/share/x libc:" + nativeArch() + "\n",
		"etc/apt/sources.list": "0 644 0:0 deb " + m.url + " test main\n",
	} {
		if path == "var/lib/dpkg/info/extra.md5sums" {
			want = got[path] // its sum is looked at below
		}
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
	for _, path := range []string{"var/log/some.log", "usr/sbin/policy-rc.d", "run/pipe", ".kist-bootstrap", "etc/passwd-"} {
		if got[path] != "" {
			t.Errorf("%s is left: %q", path, got[path])
		}
	}
	status := got["var/lib/dpkg/status"]
	for _, want := range []string{"Package: base-files\nStatus: install ok installed\n", "Conffiles:\n /etc/issue b1946ac92492d2347c6235b4d2611184\n", "Section: admin"} {
		if !strings.Contains(status, want) {
			t.Errorf("status lacks %q:\n%s", want, status)
		}
	}
	if !strings.Contains(got["var/lib/dpkg/info/extra.md5sums"], "  usr/bin/apt") {
		t.Error(got["var/lib/dpkg/info/extra.md5sums"])
	}
	if strings.Contains(w.script, "preinst shell") || !strings.Contains(w.script, "preinst libc:"+nativeArch()+" libc") || !strings.Contains(w.script, "configure --configure -a") {
		t.Errorf("script:\n%s", w.script)
	}
	w.nothingLeft()
}

func TestTheSameTwice(t *testing.T) {
	m := newMirror(t, system()...)
	var ids []string
	for range 3 {
		w := newWorld(t)
		res, err := w.make(m, func(r *bootmsg.Request) { r.Include = []string{"extra"} })
		w.ok(err)
		ids = append(ids, res.ID+" "+res.Digest)
	}
	if ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("%q", ids)
	}
}

func TestEpoch(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	epoch := int64(5e8)
	_, err := w.make(m, func(r *bootmsg.Request) { r.Epoch = &epoch; r.Tag = "dated"; r.Variant = "essential" })
	w.ok(err)
	img, err := w.images.Get(context.Background(), "dated")
	w.ok(err)
	if img.Config.Created.Unix() != epoch || img.Config.Config.Cmd[0] != "sh" {
		t.Errorf("%+v", img.Config)
	}
}

func TestDpkgUnpacksWhatDiverts(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	w.command = func(_ context.Context, root string) error {
		raw, err := os.ReadFile(filepath.Join(root, debDir, "diverts.deb"))
		if err != nil || !bytes.HasPrefix(raw, []byte("!<arch>")) {
			return fmt.Errorf("the package is not there: %w", err)
		}
		if _, err := os.Stat(filepath.Join(root, "usr/bin/diverted")); err == nil {
			return errors.New("it is unpacked already")
		}
		return nil
	}
	_, err := w.make(m, func(r *bootmsg.Request) { r.Include = []string{"diverts"} })
	w.ok(err)
	if !strings.Contains(w.script, "configure --unpack /"+debDir+"/diverts.deb") || w.tree("any:test")[debDir+"/diverts.deb"] != "" {
		t.Error(w.script)
	}
}

func TestList(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	for path := range m.files {
		if strings.HasPrefix(path, "pool/") {
			delete(m.files, path)
		}
	}
	res, err := w.make(m, func(r *bootmsg.Request) { r.List = true })
	w.ok(err)
	var names []string
	for _, p := range res.Packages {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"apt", "base-files", "libc", "shell"}) || res.ID != "" {
		t.Error(names, res.ID)
	}
	w.nothingLeft()
}

// Each of these packages means harm, or is broken.
func TestHostilePackages(t *testing.T) {
	evil := func(h ...tar.Header) deb { return deb{name: "evil", files: h} }
	outside := filepath.Join(t.TempDir(), "outside")
	up := strings.Repeat("../", 30)
	for name, d := range map[string]deb{
		"path up":              evil(file("../../escaped", "x")),
		"path up inside":       evil(file("./etc/../../escaped", "x")),
		"absolute path":        evil(file(outside, "x")),
		"link up":              evil(tar.Header{Name: "./l", Typeflag: tar.TypeSymlink, Linkname: up + strings.TrimPrefix(outside, "/")}, file("./l/x", "x")),
		"hard link up":         evil(tar.Header{Name: "./h", Typeflag: tar.TypeLink, Linkname: "../../../../etc/passwd"}),
		"hard link nowhere":    evil(tar.Header{Name: "./h", Typeflag: tar.TypeLink, Linkname: "./etc/none"}),
		"device":               evil(tar.Header{Name: "./null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
		"no archive":           {name: "evil", raw: []byte("nothing of the kind")},
		"damaged data":         {name: "evil", raw: testbed.Ar("debian-binary", "2.0\n", "control.tar.gz", packed(t, "", []tar.Header{file("./control", deb{name: "evil"}.text())}), "data.tar.gz", "\x1f\x8b\x08rubbish")},
		"another package":      {name: "evil", raw: deb{name: "good"}.build(t)},
		"control outside":      {name: "evil", control: map[string]string{"../../x": "x"}},
		"control directory":    {name: "evil", control: map[string]string{"sub/x": "x"}},
		"others' file":         evil(file("./etc/issue", "mine")),
		"file for a directory": evil(file("./tmp", "x")),
	} {
		t.Run(name, func(t *testing.T) {
			w, m := newWorld(t), newMirror(t, append(system(), d)...)
			_, err := w.make(m, func(r *bootmsg.Request) { r.Include = []string{"evil"} })
			if err == nil {
				if name != "link up" { // it leads to a directory inside, as chroot takes it
					t.Errorf("taken: %v", w.tree("any:test"))
				}
			} else if !strings.Contains(err.Error(), "evil") && !strings.Contains(err.Error(), "of another") {
				t.Error(err)
			}
			if _, err := os.Lstat(outside); err == nil {
				t.Error("it got out")
			}
			w.nothingLeft()
		})
	}
}

func TestWhatIsNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		mirror  func(m *mirror)
		request func(r *bootmsg.Request)
		code    string
		words   string
	}{
		"another key":   {func(*mirror) {}, func(r *bootmsg.Request) { r.Keyrings = [][]byte{newMirror(t).keyring()} }, "bootstrap-signature", "signed by"},
		"no key at all": {func(*mirror) {}, func(r *bootmsg.Request) { r.Keyrings = nil }, "bootstrap-signature", "not in apt's keyrings"},
		"changed release": {func(m *mirror) {
			m.files["dists/test/InRelease"] = bytes.Replace(m.files["dists/test/InRelease"], []byte("main"), []byte("evil"), 1)
		}, nil, "bootstrap-signature", "not valid"},
		"unsigned": {func(m *mirror) {
			m.files["dists/test/Release"] = []byte("Codename: test\n")
			delete(m.files, "dists/test/InRelease")
		}, nil, "bootstrap-signature", "not signed"},
		"changed list": {func(m *mirror) {
			for path, raw := range m.files {
				if strings.Contains(path, "Packages") || strings.Contains(path, "by-hash") {
					m.files[path] = bytes.Repeat([]byte("x"), len(raw))
				}
			}
		}, nil, "bootstrap-mirror-damaged", "signed lists"},
		"changed package":      {func(m *mirror) { m.files["pool/libc.deb"] = bytes.Repeat([]byte("x"), len(m.files["pool/libc.deb"])) }, nil, "bootstrap-mirror-damaged", "libc.deb"},
		"longer package":       {func(m *mirror) { m.files["pool/libc.deb"] = append(m.files["pool/libc.deb"], 'x') }, nil, "bootstrap-mirror-damaged", "libc.deb"},
		"missing package":      {func(m *mirror) { delete(m.files, "pool/libc.deb") }, nil, "", "404"},
		"too old":              {func(m *mirror) { m.until = time.Now().Add(-time.Hour); m.write() }, nil, "bootstrap-stale", "valid until"},
		"another suite":        {func(m *mirror) { m.files["dists/other/InRelease"] = m.files["dists/test/InRelease"] }, func(r *bootmsg.Request) { r.Suite = "any:other" }, "bootstrap-suite", "stable (test)"},
		"no such suite":        {func(*mirror) {}, func(r *bootmsg.Request) { r.Suite = "debian:bokworm" }, "bootstrap-suite", "nearest: bookworm"},
		"no such package":      {func(*mirror) {}, func(r *bootmsg.Request) { r.Include = []string{"exta"} }, "bootstrap-package", "nearest: extra"},
		"no such version":      {func(*mirror) {}, func(r *bootmsg.Request) { r.Include = []string{"extra=7"} }, "bootstrap-package", "there is extra (1)"},
		"no such component":    {func(*mirror) {}, func(r *bootmsg.Request) { r.Components = []string{"mine"} }, "bootstrap-component", "it has main"},
		"no such architecture": {func(*mirror) {}, func(r *bootmsg.Request) { r.Arch, r.List = "s390x", true }, "bootstrap-architecture", "it has " + nativeArch()},
		"bad architecture":     {func(*mirror) {}, func(r *bootmsg.Request) { r.Arch = "vax" }, "bootstrap-invalid", "vax"},
		"bad variant":          {func(*mirror) {}, func(r *bootmsg.Request) { r.Variant = "huge" }, "bootstrap-invalid", "minbase"},
		"bad suite":            {func(*mirror) {}, func(r *bootmsg.Request) { r.Suite = "any:../../etc" }, "bootstrap-invalid", "suite"},
		"bad mirror":           {func(*mirror) {}, func(r *bootmsg.Request) { r.Mirrors = []string{"ftp://x"} }, "bootstrap-invalid", "http, https or file"},
		"nobody listens":       {func(*mirror) {}, func(r *bootmsg.Request) { r.Mirrors = []string{"http://127.0.0.1:1"} }, "bootstrap-mirror-unreachable", "refused"},
		"excluded":             {func(*mirror) {}, func(r *bootmsg.Request) { r.Exclude = []string{"libc"} }, "bootstrap-package", "shell (1) depends on"},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := newWorld(t), newMirror(t, system()...)
			c.mirror(m)
			_, err := w.make(m, c.request)
			if err == nil {
				t.Fatal("it was believed")
			}
			f, ok := fault.As(err)
			if c.code != "" && (!ok || f.Code != c.code || f.Class == nil) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v\nwant %s, %q", err, c.code, c.words)
			}
			if ok && f.Try == "" {
				t.Errorf("nothing to try: %v", err)
			}
			w.nothingLeft()
		})
	}
}

func TestWhatIsBelievedWhenAskedTo(t *testing.T) {
	for name, change := range map[string]func(m *mirror, r *bootmsg.Request){
		"unsigned": func(_ *mirror, r *bootmsg.Request) { r.Keyrings, r.Unsigned = nil, true },
		"stale":    func(m *mirror, r *bootmsg.Request) { m.until = time.Now().Add(-time.Hour); m.write(); r.Stale = true },
		"trusted line": func(m *mirror, r *bootmsg.Request) {
			r.Keyrings, r.Mirrors = nil, []string{"deb [trusted=yes] " + m.url + " test main"}
		},
		"a directory": func(m *mirror, r *bootmsg.Request) {
			dir := m.t.TempDir()
			for name, raw := range m.files {
				at := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, raw, 0o644)); err != nil {
					m.t.Fatal(err)
				}
			}
			r.Mirrors = []string{"file://" + dir}
		},
		"a mirror in the middle of an update": func(m *mirror, _ *bootmsg.Request) {
			for path := range m.files {
				if strings.HasSuffix(path, "/Packages.gz") {
					m.files[path] = []byte("another list")
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := newWorld(t), newMirror(t, system()...)
			_, err := w.make(m, func(r *bootmsg.Request) { change(m, r) })
			w.ok(err)
			if r := name == "unsigned" || name == "trusted line"; r && !strings.Contains(strings.Join(w.notes, "\n"), "without a look at its signature") {
				t.Error("nobody is warned:", w.notes)
			}
		})
	}
}

// A connection that breaks is taken up where it broke, and a busy mirror is asked again.
func TestBrokenConnections(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	seen := map[string]int{}
	resumed := 0
	m.served = func(rw http.ResponseWriter, r *http.Request) bool {
		seen[r.URL.Path]++
		raw := m.files[strings.TrimPrefix(r.URL.Path, "/")]
		if r.Header.Get("Range") != "" {
			resumed++
		}
		switch {
		case seen[r.URL.Path] > 1 || !strings.HasSuffix(r.URL.Path, "c.deb") && !strings.HasSuffix(r.URL.Path, "InRelease"):
			return false
		case strings.HasSuffix(r.URL.Path, "InRelease"):
			rw.WriteHeader(http.StatusServiceUnavailable)
		default:
			rw.Header().Set("Content-Length", fmt.Sprint(len(raw)))
			_, _ = rw.Write(raw[:len(raw)/2])
			panic(http.ErrAbortHandler)
		}
		return true
	}
	_, err := w.make(m, nil)
	w.ok(err)
	if resumed != 1 {
		t.Error(resumed, "downloads were taken up")
	}
}

func TestFailingScripts(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	w.command = func(context.Context, string) error { return errdefs.ErrUnavailable }
	if _, err := w.make(m, nil); !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
	w.nothingLeft()
	w.command = func(_ context.Context, root string) error {
		return os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), []byte("Package: x\nStatus: install ok half-configured\n"), 0o644)
	}
	if _, err := w.make(m, nil); err == nil || !strings.Contains(err.Error(), "half-configured") {
		t.Error(err)
	}
	w.nothingLeft()
}

func TestCancelled(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	ctx, cancel := context.WithCancel(context.Background())
	w.command = func(context.Context, string) error { cancel(); return ctx.Err() }
	_, err := w.Make(ctx, bootmsg.Request{Suite: "any:test", Mirrors: []string{m.url}, Keyrings: [][]byte{m.keyring()}}, func(bootmsg.Message) {})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.nothingLeft()
}

// What a process left that was killed goes when the next one begins.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	_, err := w.layers.Prepare(context.Background(), newID(), nil, prepareOptions)
	w.ok(err)
	w.ok(os.WriteFile(filepath.Join(w.dir, "work", "fetch-123"), []byte("x"), 0o600))
	_, err = Open(context.Background(), w.cfg)
	w.ok(err)
	w.nothingLeft()
}

func TestFullDisk(t *testing.T) {
	w, m := newWorld(t), newMirror(t, append(system(), deb{name: "large", files: []tar.Header{file("./large", strings.Repeat("x", 8<<20))}})...)
	work := filepath.Join(w.dir, "work")
	if err := unix.Mount("tmpfs", work, "tmpfs", 0, "size=4k,nr_inodes=100"); err != nil {
		t.Skip("skip: cannot mount:", err)
	}
	defer func() { _ = unix.Unmount(work, unix.MNT_DETACH) }()
	_, err := w.make(m, func(r *bootmsg.Request) { r.Include = []string{"large"} })
	if f, ok := fault.As(err); !ok || f.Code != "disk-full" {
		t.Error(err)
	}
	w.nothingLeft()
}

func TestForeignArchitectures(t *testing.T) {
	w, m := newWorld(t), newMirror(t, system()...)
	runs := map[string]bool{}
	for _, p := range runstep.Platforms() {
		runs[p.Architecture] = true
	}
	for arch, p := range architectures {
		if runs[p.Architecture] {
			continue
		}
		_, err := w.make(m, func(r *bootmsg.Request) { r.Arch = arch })
		if f, ok := fault.As(err); !ok || f.Code != "platform-foreign" {
			t.Errorf("%s: %v", arch, err)
		}
	}
}
