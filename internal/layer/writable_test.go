package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// mounted gives a path to the root filesystem while fn runs.
func mounted(t *testing.T, s *Store, id string, fn func(dir string)) {
	t.Helper()
	root, err := s.OpenRoot(id)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	fn(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func baseLayer(t *testing.T, s *Store) digest.Digest {
	t.Helper()
	return unpack(t, s,
		file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/same", body: "s"}, file{name: "etc/edit", body: "e"},
		file{name: "etc/gone", body: "g"}, file{name: "etc/mode", body: "m"},
		file{name: "keep/", kind: tar.TypeDir}, file{name: "keep/f", body: "k"},
		file{name: "replaced/", kind: tar.TypeDir}, file{name: "replaced/a"}, file{name: "replaced/b"},
		file{name: "replaced/sub/", kind: tar.TypeDir}, file{name: "replaced/sub/x"}, file{name: "replaced/sub/y"},
		file{name: "dropped/", kind: tar.TypeDir}, file{name: "dropped/x"},
		file{name: "tofile/", kind: tar.TypeDir}, file{name: "tofile/x"}, file{name: "todir", body: "f"},
	)
}

// change makes changes of every kind in a mounted root filesystem.
func change(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t,
		os.WriteFile(at("etc/edit"), []byte("edited"), 0o755), os.Remove(at("etc/gone")), os.Chmod(at("etc/mode"), 0o600),
		os.Chtimes(at("etc/same"), epoch, epoch), // copied up, not changed
		os.MkdirAll(at("new/deep"), 0o755), os.WriteFile(at("new/deep/f"), []byte("new"), 0o644),
		os.Link(at("new/deep/f"), at("new/hard")), os.Symlink("deep/f", at("new/sym")),
		os.RemoveAll(at("replaced")), os.MkdirAll(at("replaced/sub"), 0o755),
		os.WriteFile(at("replaced/b"), []byte("b2"), 0o755), os.WriteFile(at("replaced/sub/y"), []byte("y2"), 0o755),
		os.RemoveAll(at("dropped")), os.RemoveAll(at("tofile")), os.WriteFile(at("tofile"), []byte("file"), 0o644),
		os.Remove(at("todir")), os.MkdirAll(at("todir/in"), 0o755),
		os.WriteFile(at("brief"), nil, 0o644), os.Remove(at("brief")), // never there for who looks later
		unix.Mknod(at("new/sock"), unix.S_IFSOCK|0o600, 0), unix.Setxattr(at("new/deep"), "user.k", []byte("v"), 0),
	)
}

func TestChanges(t *testing.T) {
	s := open(t)
	prepare(t, s, "c1", baseLayer(t, s))
	if got, err := s.Changes(t.Context(), "c1"); err != nil || len(got) > 0 {
		t.Error("changes before any were made:", got, err)
	}
	mounted(t, s, "c1", func(dir string) { change(t, dir) })
	changes, err := s.Changes(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Kind.String()+" "+c.Path)
	}
	want := []string{
		"D /dropped", "C /etc", "C /etc/edit", "D /etc/gone", "C /etc/mode", "A /new", "A /new/deep", "A /new/deep/f", "A /new/hard",
		"A /new/sock", "A /new/sym", "C /replaced", "D /replaced/a", "C /replaced/b", "C /replaced/sub", "D /replaced/sub/x",
		"C /replaced/sub/y", "C /todir", "A /todir/in", "C /tofile",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDiffRoundTrip commits a writable layer, and the new image must look as the container did.
func TestDiffRoundTrip(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	prepare(t, s, "c1", base)
	var want []string
	mounted(t, s, "c1", func(dir string) {
		change(t, dir)
		want = look(t, dir)
	})
	var diff bytes.Buffer
	must(t, s.Diff(t.Context(), "c1", &diff))
	var names []string
	for r := tar.NewReader(bytes.NewReader(diff.Bytes())); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, hdr.Name)
	}
	for _, name := range []string{".wh.dropped", "etc/.wh.gone", "replaced/.wh..wh..opq"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing in %q", name, names)
		}
	}
	for _, name := range []string{"./", ".wh.brief", "new/.wh..wh..opq", "todir/.wh..wh..opq", "new/sock"} {
		if slices.Contains(names, name) {
			t.Errorf("%s is in the layer", name)
		}
	}
	top, err := s.Ingest(t.Context(), &diff)
	must(t, err)
	prepare(t, s, "c2", base, top)
	mounted(t, s, "c2", func(dir string) {
		got := look(t, dir)
		want = slices.DeleteFunc(want, func(l string) bool { return strings.HasPrefix(l, "new/sock") })
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	var export bytes.Buffer
	root, err := s.OpenRoot("c2")
	must(t, err)
	must(t, archive.Tar(t.Context(), root, "/", &export, archive.TarOptions{NoRoot: true}))
	root.Close()
	flat, err := s.Ingest(t.Context(), &export)
	must(t, err)
	prepare(t, s, "c3", flat)
	mounted(t, s, "c3", func(dir string) {
		if got := look(t, dir); !slices.Equal(got, want) {
			t.Errorf("exported: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// look describes a tree; times to the second, as archives keep them.
func look(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir+"/", func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		name := strings.TrimPrefix(path, dir+"/")
		if slices.ContainsFunc(mountPoints, func(m mountPoint) bool { return m.name == name }) {
			return nil
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		line := fmt.Sprintf("%s %o %d:%d %d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch {
		case e.Type().IsRegular():
			data, err := os.ReadFile(path)
			must(t, err)
			line += fmt.Sprintf(" %q %d", data, st.Nlink)
		case e.IsDir():
			if path == dir+"/" {
				return nil
			}
			v, _ := sys.GetXattr(path, "user.k")
			line += " " + string(v)
		}
		lines = append(lines, line)
		return nil
	})
	must(t, err)
	return lines
}

func TestReadFile(t *testing.T) {
	s := open(t)
	base := unpack(t, s,
		file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/a", body: "a"}, file{name: "etc/l", kind: tar.TypeSymlink, link: "../etc/a"},
		file{name: "out", kind: tar.TypeSymlink, link: "/../../../../etc/passwd"}, file{name: "dev", kind: tar.TypeChar, mode: 0o666})
	prepare(t, s, "c1", base)
	root, err := s.OpenRoot("c1") // in use, as by a running container
	must(t, err)
	defer root.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/", root.Fd())
	must(t, os.WriteFile(at+"etc/a", []byte("a2"), 0o644))
	for name, want := range map[string]string{"/etc/a": "a2", "etc/l": "a2", "etc/../etc/./a": "a2", "etc/b": "", "etc/a/b": "", "etc": "", "out": "", "dev": ""} {
		got, err := s.ReadFile("c1", name, 100)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	must(t, os.Remove(at+"etc/a"))
	for _, name := range []string{"etc/a", "etc/l", "nowhere/a"} {
		if _, err := s.ReadFile("c1", name, 100); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.ReadFile("c2", "x", 1); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

// TestReadFileAgain reads what is known already: of each image its own, and of a container that has changed it, its own.
func TestReadFileAgain(t *testing.T) {
	s := open(t)
	one := unpack(t, s, file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/a", body: "one"})
	two := unpack(t, s, file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/a", body: "two"})
	big := unpack(t, s, file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/a", body: strings.Repeat("x", knownSize+1)})
	prepare(t, s, "c1", one)
	prepare(t, s, "c2", one)
	prepare(t, s, "c3", one, two)
	prepare(t, s, "c4", big)
	read := func(id, want string) {
		t.Helper()
		if got, err := s.ReadFile(id, "/etc/a", knownSize+1); err != nil || string(got) != want {
			t.Errorf("%s: %.20q %v", id, got, err)
		}
	}
	for range 2 {
		read("c1", "one")
		read("c2", "one")
		read("c3", "two")
		read("c4", strings.Repeat("x", knownSize+1))
	}
	if n := len(s.known.files); n != 2 {
		t.Errorf("%d files are known", n)
	}
	if _, err := s.ReadFile("c2", "/etc/a", 2); err == nil {
		t.Error("a known file may be too large, too")
	}
	mounted(t, s, "c2", func(dir string) { must(t, os.WriteFile(dir+"/etc/a", []byte("changed"), 0o644)) })
	read("c1", "one")
	read("c2", "changed")
	mounted(t, s, "c2", func(dir string) { must(t, os.Remove(dir+"/etc/a")) })
	if _, err := s.ReadFile("c2", "/etc/a", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	read("c1", "one")
	_, err := s.Collect(t.Context(), func(digest.Digest) bool { return true })
	must(t, err)
	if len(s.known.files) != 0 {
		t.Error("known after layers were removed")
	}
	for i := range knownMost + 1 {
		s.known.put(fmt.Sprint(i), nil)
	}
	if n := len(s.known.files); n > knownMost {
		t.Errorf("%d files are known", n)
	}
}

func TestUsage(t *testing.T) {
	s := open(t)
	prepare(t, s, "c1", baseLayer(t, s))
	before, err := s.Usage("c1")
	must(t, err)
	mounted(t, s, "c1", func(dir string) {
		must(t, os.WriteFile(dir+"/big", make([]byte, 1<<20), 0o644), os.Link(dir+"/big", dir+"/again"))
	})
	after, err := s.Usage("c1")
	must(t, err)
	if grown := after - before; grown < 1<<20 || grown > 1<<20+64<<10 {
		t.Errorf("a megabyte with two names adds %d bytes", grown)
	}
}

func TestManyLayers(t *testing.T) {
	s := open(t)
	var layers []digest.Digest
	for i := range maxStack + 1 {
		layers = append(layers, unpack(t, s, file{name: fmt.Sprintf("f%d", i), body: "x"}))
	}
	prepare(t, s, "c1", layers[:maxStack]...)
	mounted(t, s, "c1", func(dir string) {
		names, err := os.ReadDir(dir)
		if err != nil || len(names) != maxStack+5 { // and the mount points
			t.Error(len(names), err)
		}
	})
	if _, err := s.Prepare(t.Context(), "c2", layers, PrepareOptions{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error("more than overlayfs takes:", err)
	}
}

func TestOpaqueRoot(t *testing.T) {
	s := open(t)
	base := unpack(t, s, file{name: "old"})
	prepare(t, s, "c1", base, unpack(t, s, file{name: ".wh..wh..opq"}, file{name: "new"}))
	mounted(t, s, "c1", func(dir string) {
		if names := look(t, dir); len(names) != 2 || !strings.HasPrefix(names[1], "new ") { // and etc
			t.Error(names)
		}
	})
}

func TestPrepareKinds(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	for _, c := range []struct {
		name   string
		layers []digest.Digest
		o      PrepareOptions
	}{
		{"scratch", nil, PrepareOptions{}},
		{"one", []digest.Digest{base}, PrepareOptions{ReadOnly: true}},
		{"nothing", nil, PrepareOptions{ReadOnly: true}},
		{"volatile", []digest.Digest{base}, PrepareOptions{Volatile: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := s.Prepare(t.Context(), c.name, c.layers, c.o)
			must(t, err)
			again, err := s.Rootfs(c.name)
			must(t, err)
			if fmt.Sprint(o) != fmt.Sprint(again) || (o.Upper == "") != c.o.ReadOnly || o.Volatile != c.o.Volatile {
				t.Errorf("%+v, then %+v", o, again)
			}
			if !c.o.ReadOnly || len(c.layers) > 0 {
				mounted(t, s, c.name, func(dir string) {
					err := os.WriteFile(dir+"/f", nil, 0o644)
					if (err == nil) == c.o.ReadOnly {
						t.Error("writing:", err)
					}
				})
			}
		})
	}
	_, err := s.Prepare(t.Context(), "volatile", nil, PrepareOptions{})
	if !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Error("an id that is taken:", err)
	}
	for _, id := range []string{"", "..", "a/b", ".x"} {
		if _, err := s.Prepare(t.Context(), id, nil, PrepareOptions{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if _, err := s.Prepare(t.Context(), "x", []digest.Digest{digest.FromString("no")}, PrepareOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error("a layer that is not there:", err)
	}
}

// TestMountPoints: what the image has is left alone, what it lacks is there, and neither shows as a change.
func TestMountPoints(t *testing.T) {
	s := open(t)
	base := unpack(t, s,
		file{name: "etc/", kind: tar.TypeDir, mode: 0o710, uid: 3}, file{name: "etc/hosts", body: "own"},
		file{name: "etc/resolv.conf", kind: tar.TypeSymlink, link: "../run/resolv"}, file{name: "sys", kind: tar.TypeSymlink, link: "/elsewhere"},
		file{name: "proc", body: "a file"})
	prepare(t, s, "c1", base)
	prepare(t, s, "c2", base)
	mounted(t, s, "c1", func(dir string) {
		var st unix.Stat_t
		must(t, unix.Stat(dir+"/etc", &st))
		if st.Mode&0o7777 != 0o710 || st.Uid != 3 || st.Mtim.Sec != epoch.Unix() {
			t.Errorf("etc: %o %d %d", st.Mode, st.Uid, st.Mtim.Sec)
		}
		for name, want := range map[string]os.FileMode{
			"etc/hostname": 0o644, "dev/pts": os.ModeDir | 0o755, "etc/mtab": os.ModeSymlink | 0o777, ".dockerenv": 0o644,
			"etc/resolv.conf": os.ModeSymlink | 0o777, "sys": os.ModeSymlink | 0o777, "proc": 0o755,
		} {
			if fi, err := os.Lstat(dir + "/" + name); err != nil || fi.Mode() != want {
				t.Error(name, fi, err)
			}
		}
		if body, _ := os.ReadFile(dir + "/etc/hosts"); string(body) != "own" {
			t.Errorf("etc/hosts: %q", body)
		}
	})
	if got, err := s.Changes(t.Context(), "c1"); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
	if names, _ := readNames(s.fd, "i"); len(names) != 1 {
		t.Error("two containers of one image:", names)
	}
	must(t, s.Remove(t.Context(), "c1"), s.Remove(t.Context(), "c2"))
	_, err := s.Collect(t.Context(), func(digest.Digest) bool { return true })
	must(t, err)
	if names, _ := readNames(s.fd, "i"); len(names) != 0 {
		t.Error("left:", names)
	}
}

// TestVolatileAgain mounts a volatile layer twice, as a container that is restarted does.
func TestVolatileAgain(t *testing.T) {
	s := open(t)
	_, err := s.Prepare(t.Context(), "c1", []digest.Digest{baseLayer(t, s)}, PrepareOptions{Volatile: true})
	must(t, err)
	for range 2 {
		o, err := s.Rootfs("c1")
		must(t, err)
		if !o.Volatile {
			t.Fatal("not volatile")
		}
		f, err := o.Mount(s.place)
		must(t, err)
		must(t, os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/f", f.Fd()), []byte("x"), 0o644), f.Close())
	}
}

// TestMountOld is the way of kernels that lack lowerdir+.
func TestMountOld(t *testing.T) {
	s := open(t)
	prepare(t, s, "c1", baseLayer(t, s))
	o, err := s.Rootfs("c1")
	must(t, err)
	f, err := o.MountOld(s.place)
	must(t, err)
	root := sys.NewRoot(f)
	defer root.Close()
	if data, err := root.ReadFile("etc/same", 9); string(data) != "s" {
		t.Error(string(data), err)
	}
	if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(mounts), s.dir) {
		t.Error("the mount can be seen")
	}
	assertEmpty(t, s, "t")
}
