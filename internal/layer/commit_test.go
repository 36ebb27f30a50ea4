package layer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// commit commits a writable layer and checks that its tar is what the diff id says.
func commit(t *testing.T, s *Store, id string, o CommitOptions) Committed {
	t.Helper()
	c, err := s.Commit(t.Context(), id, o)
	must(t, err)
	if _, err := s.Rootfs(id); !errdefs.IsNotFound(err) {
		t.Errorf("%s is still there after Commit: %v", id, err)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "c", id)); err == nil {
		t.Errorf("the directory of %s is still there", id)
	}
	if c.DiffID == "" {
		return c
	}
	var tar bytes.Buffer
	must(t, s.WriteTar(t.Context(), c.DiffID, &tar))
	if got := digest.FromBytes(tar.Bytes()); got != c.DiffID {
		t.Errorf("the tar is %s, the diff id %s", got, c.DiffID)
	}
	if n, err := s.TarSize(c.DiffID); err != nil || n != int64(tar.Len()) {
		t.Errorf("TarSize %d, %v; the tar has %d", n, err, tar.Len())
	}
	if size, err := s.Size(c.DiffID); err != nil || size != c.Size {
		t.Errorf("size %d %v, committed %d", size, err, c.Size)
	}
	return c
}

func TestCommitRoundTrip(t *testing.T) {
	s, other := open(t), open(t)
	base := baseLayer(t, s)
	prepare(t, s, "c1", base)
	var want []string
	mounted(t, s, "c1", func(dir string) {
		change(t, dir)
		want = look(t, dir)
	})
	want = slices.DeleteFunc(want, func(l string) bool { return strings.HasPrefix(l, "new/sock") })
	c := commit(t, s, "c1", CommitOptions{})
	prepare(t, s, "c2", base, c.DiffID)
	mounted(t, s, "c2", func(dir string) {
		if got := look(t, dir); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	// Somewhere else the tar unpacks to the same.
	var tar bytes.Buffer
	must(t, s.WriteTar(t.Context(), c.DiffID, &tar))
	id, err := other.Ingest(t.Context(), &tar)
	must(t, err)
	if id != c.DiffID {
		t.Error("ingested as", id)
	}
	prepare(t, other, "c3", baseLayer(t, other), id)
	mounted(t, other, "c3", func(dir string) {
		if got := look(t, dir); !slices.Equal(got, want) {
			t.Errorf("elsewhere\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	if _, err := other.TarSize(id); !errdefs.IsNotFound(err) {
		t.Error("a layer that was not made here has a tar:", err)
	}
}

// TestCommitNothing makes changes that leave nothing behind.
func TestCommitNothing(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	for name, change := range map[string]func(at func(string) string) error{
		"nothing": func(func(string) string) error { return nil },
		"made and gone": func(at func(string) string) error {
			return first(os.WriteFile(at("etc/new"), nil, 0o644), os.Remove(at("etc/new")))
		},
		"tree made and gone": func(at func(string) string) error {
			return first(os.MkdirAll(at("keep/a/b/c"), 0o755), os.RemoveAll(at("keep/a")))
		},
		"same owner": func(at func(string) string) error { return os.Chown(at("etc/edit"), 0, 0) },
		"same mode":  func(at func(string) string) error { return os.Chmod(at("keep"), 0o755) },
		"mode and back": func(at func(string) string) error {
			return first(os.Chmod(at("etc/same"), 0o600), os.Chmod(at("etc/same"), 0o755))
		},
		"dockerenv": func(at func(string) string) error { return os.Remove(at(".dockerenv")) },
		"socket":    func(at func(string) string) error { return unix.Mknod(at("keep/s"), unix.S_IFSOCK|0o600, 0) },
		"whiteout":  func(at func(string) string) error { return os.WriteFile(at("keep/.wh.f"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			prepare(t, s, "c", base)
			mounted(t, s, "c", func(dir string) { must(t, change(func(n string) string { return filepath.Join(dir, n) })) })
			if c := commit(t, s, "c", CommitOptions{}); c.DiffID != "" {
				var tar bytes.Buffer
				must(t, s.WriteTar(t.Context(), c.DiffID, &tar))
				t.Errorf("a layer was made: %q", tar.Bytes()[:min(tar.Len(), 1024)])
			}
		})
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestCommitSettles looks at what of a change is left.
func TestCommitSettles(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	for name, c := range map[string]struct {
		change func(at func(string) string) error
		want   []string // of the layer alone
	}{
		"forged time": {func(at func(string) string) error {
			var st unix.Stat_t
			must(t, unix.Stat(at("etc/edit"), &st))
			if err := os.WriteFile(at("etc/edit"), []byte("X"), 0o755); err != nil {
				return err
			}
			return unix.UtimesNanoAt(unix.AT_FDCWD, at("etc/edit"), []unix.Timespec{st.Atim, st.Mtim}, 0)
		}, []string{"etc", "etc/edit"}},
		"attribute":  {func(at func(string) string) error { return unix.Setxattr(at("etc/same"), "user.a", []byte("1"), 0) }, []string{"etc", "etc/same"}},
		"mode":       {func(at func(string) string) error { return os.Chmod(at("keep"), 0o700) }, []string{"keep"}},
		"removed":    {func(at func(string) string) error { return os.RemoveAll(at("dropped")) }, []string{"dropped"}},
		"removed in": {func(at func(string) string) error { return os.Remove(at("etc/gone")) }, []string{"etc", "etc/gone"}},
		"root":       {func(at func(string) string) error { return os.Chmod(at("."), 0o711) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			prepare(t, s, "c", base)
			mounted(t, s, "c", func(dir string) { must(t, c.change(func(n string) string { return filepath.Join(dir, n) })) })
			made := commit(t, s, "c", CommitOptions{})
			l := s.layers[made.DiffID]
			if l == nil {
				t.Fatal("no layer was made")
			}
			var got []string
			must(t, filepath.WalkDir(filepath.Join(s.dir, "l", l.name, "d"), func(at string, _ os.DirEntry, err error) error {
				if rel := strings.TrimPrefix(strings.TrimPrefix(at, filepath.Join(s.dir, "l", l.name, "d")), "/"); rel != "" {
					got = append(got, rel)
				}
				return err
			}))
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			prepare(t, s, "again", base, made.DiffID)
			must(t, s.Remove(t.Context(), "again"))
		})
	}
}

func TestCommitRootMode(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	prepare(t, s, "c1", base)
	mounted(t, s, "c1", func(dir string) { must(t, os.Chmod(dir+"/.", 0o711)) })
	c := commit(t, s, "c1", CommitOptions{})
	prepare(t, s, "c2", base, c.DiffID)
	mounted(t, s, "c2", func(dir string) {
		if fi, err := os.Stat(dir + "/."); err != nil || fi.Mode().Perm() != 0o711 {
			t.Error(fi.Mode(), err)
		}
	})
}

// TestCommitOnNothing commits a layer that is the first one, in which opaque marks hide nothing.
func TestCommitOnNothing(t *testing.T) {
	s := open(t)
	prepare(t, s, "c1")
	mounted(t, s, "c1", func(dir string) {
		must(t, os.RemoveAll(filepath.Join(dir, "etc")), os.MkdirAll(filepath.Join(dir, "etc/x"), 0o755))
	})
	c := commit(t, s, "c1", CommitOptions{})
	var tar bytes.Buffer
	must(t, s.WriteTar(t.Context(), c.DiffID, &tar))
	if bytes.Contains(tar.Bytes(), []byte(".wh.")) {
		t.Error("the layer has marks that hide nothing")
	}
}

func TestCommitEpoch(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	at := time.Unix(1_700_000_000, 0)
	old := time.Unix(1_600_000_000, 0)
	ids := make([]digest.Digest, 2)
	for i := range ids {
		prepare(t, s, "c", base)
		mounted(t, s, "c", func(dir string) {
			change(t, dir)
			must(t, os.Chtimes(filepath.Join(dir, "new/deep/f"), old, old))
		})
		ids[i] = commit(t, s, "c", CommitOptions{Epoch: &at}).DiffID
		time.Sleep(20 * time.Millisecond)
	}
	if ids[0] != ids[1] {
		t.Error("the same changes with an epoch make two layers")
	}
	prepare(t, s, "look", base, ids[0])
	mounted(t, s, "look", func(dir string) {
		for name, want := range map[string]time.Time{"new": at, "new/deep/f": old, "etc/edit": at} {
			fi, err := os.Lstat(filepath.Join(dir, name))
			must(t, err)
			if !fi.ModTime().Equal(want) {
				t.Error(name, fi.ModTime(), "want", want)
			}
		}
	})
}

func TestClamp(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	at := time.Unix(1_700_000_000, 0)
	prepare(t, s, "c", base)
	mounted(t, s, "c", func(dir string) { change(t, dir) })
	c := commit(t, s, "c", CommitOptions{})
	h := s.Hold()
	defer h.Release()
	clamped, err := s.Clamp(t.Context(), c.DiffID, at, h)
	must(t, err)
	if clamped == c.DiffID {
		t.Error("nothing was clamped")
	}
	var tar bytes.Buffer
	must(t, s.WriteTar(t.Context(), clamped, &tar))
	again, err := s.Clamp(t.Context(), clamped, at, h)
	must(t, err)
	if again != clamped {
		t.Error("clamping what is clamped makes another layer")
	}
	prepare(t, s, "x", base, c.DiffID)
	prepare(t, s, "y", base, clamped)
	if !s.Created(clamped).Equal(s.Created(c.DiffID)) {
		t.Error("the clamped layer was made at another time")
	}
}

func TestHold(t *testing.T) {
	s := open(t)
	h := s.Hold()
	prepare(t, s, "c", baseLayer(t, s))
	mounted(t, s, "c", func(dir string) { must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644)) })
	c := commit(t, s, "c", CommitOptions{Hold: h})
	none := func(digest.Digest) bool { return false }
	if _, err := s.Collect(t.Context(), none); err != nil || !s.Has(c.DiffID) {
		t.Fatal("a held layer was collected", err)
	}
	two := s.Hold()
	if !two.Take(c.DiffID, Empty) || two.Take("sha256:"+digest.Digest(strings.Repeat("0", 64))) {
		t.Error("Take is wrong about what is there")
	}
	h.Release()
	h.Release()
	if _, err := s.Collect(t.Context(), none); err != nil || !s.Has(c.DiffID) {
		t.Fatal("a layer that another one holds was collected", err)
	}
	two.Release()
	if _, err := s.Collect(t.Context(), none); err != nil || s.Has(c.DiffID) {
		t.Fatal("a layer that nobody holds is still there", err)
	}
	if two.Take(Empty) {
		t.Error("a released hold took something")
	}
}

func TestEmpty(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	var tar bytes.Buffer
	must(t, s.WriteTar(t.Context(), Empty, &tar))
	if got := digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(tar.Bytes()))); got != Empty || !s.Has(Empty) {
		t.Error(got)
	}
	prepare(t, s, "c", Empty, base, Empty, Empty)
	must(t, s.Unpack(t.Context(), Empty, "", bytes.NewReader(tar.Bytes())))
	if n, err := s.Size(Empty); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// TestCommitDamaged has a layer's files changed behind the store's back.
func TestCommitDamaged(t *testing.T) {
	s := open(t)
	prepare(t, s, "c", baseLayer(t, s))
	mounted(t, s, "c", func(dir string) { must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("a"), 0o644)) })
	c := commit(t, s, "c", CommitOptions{})
	must(t, os.WriteFile(filepath.Join(s.dir, "l", s.layers[c.DiffID].name, "d/f"), []byte("b"), 0o644))
	if err := s.WriteTar(t.Context(), c.DiffID, new(bytes.Buffer)); !errdefs.IsDataLoss(err) {
		t.Error(err)
	}
}

// TestCommitInterrupted reopens a store at each point at which a crash may have left it.
func TestCommitInterrupted(t *testing.T) {
	needRoot(t)
	for name, stop := range map[string]func(s *Store, tmp string) error{
		"ended": func(s *Store, tmp string) error { return unix.Renameat(s.fd, "c/c", s.fd, tmp) },
		"converted": func(s *Store, tmp string) error {
			l := &unpacked{layerMeta: layerMeta{DiffID: Empty, Boot: s.boot}}
			return first(unix.Renameat(s.fd, "c/c", s.fd, tmp), s.convert(tmp, l))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.TempDir())
			must(t, err)
			base := baseLayer(t, s)
			prepare(t, s, "c", base)
			must(t, stop(s, "t/x"))
			s = reopen(t, s, "")
			if ids, err := s.Prepared(); len(ids) > 0 || err != nil {
				t.Error("left:", ids, err)
			}
			deleted(t, s)
			assertEmpty(t, s, "t", "c", "x")
			if len(s.layers) != 1 {
				t.Error("layers:", s.layers)
			}
			must(t, s.Close())
		})
	}
}

// TestCommitGolden pins the diff id of a layer: the tars of layers must be the same wherever and whenever they are made.
func TestCommitGolden(t *testing.T) {
	s := open(t)
	prepare(t, s, "c", baseLayer(t, s))
	at := time.Unix(1_700_000_000, 0)
	mounted(t, s, "c", func(dir string) { change(t, dir) })
	const want = "sha256:6877b87363b47c6c07cfe82b2ba8c92c115c48c450b41a2c205fb234e9a8e1aa"
	if got := commit(t, s, "c", CommitOptions{Epoch: &at}).DiffID; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
