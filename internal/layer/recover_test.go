package layer

import (
	"bytes"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// reopen closes the store and opens it again, as on another boot of the machine if boot is not empty.
func reopen(t *testing.T, s *Store, boot string) *Store {
	t.Helper()
	must(t, s.Close())
	n, err := Open(s.dir)
	must(t, err)
	if boot != "" {
		n.boot = boot
		n.layers, n.names, n.roots = map[digest.Digest]*unpacked{}, map[string]*unpacked{}, map[string]*prepared{}
		n.bases = map[string]string{}
		must(t, n.recover())
		n.trash.wake()
	}
	return n
}

func TestRecover(t *testing.T) {
	needRoot(t)
	s, err := Open(t.TempDir())
	must(t, err)
	a := unpack(t, s, file{name: "a", body: "a"})
	must(t, s.Sync(t.Context()))
	b := unpack(t, s, file{name: "b", body: "b"})
	prepare(t, s, "c1", a)
	prepare(t, s, "c2", a, b)
	must(t, os.MkdirAll(filepath.Join(s.dir, "t/half/d/x"), 0o755), os.MkdirAll(filepath.Join(s.dir, "l/strange"), 0o755))

	s = reopen(t, s, "")
	if !s.Has(a) || !s.Has(b) {
		t.Error("a layer is gone after a restart of the daemon")
	}
	if ids, _ := s.Prepared(); !slices.Equal(ids, []string{"c1", "c2"}) {
		t.Error(ids)
	}
	s = reopen(t, s, "another boot")
	if !s.Has(a) || s.Has(b) {
		t.Error("after a crash of the machine, synced:", s.Has(a), "not synced:", s.Has(b))
	}
	if _, err := s.Rootfs("c1"); err != nil {
		t.Error(err)
	}
	if _, err := s.Rootfs("c2"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Error("a layer is missing:", err)
	}
	if ids, _ := s.Prepared(); !slices.Equal(ids, []string{"c1", "c2"}) {
		t.Error(ids)
	}
	if again := unpack(t, s, file{name: "b", body: "b"}); again != b {
		t.Fatal(again)
	}
	if data, err := s.ReadFile("c2", "b", 9); string(data) != "b" {
		t.Error("unpacked again:", string(data), err)
	}
	deleted(t, s)
	must(t, s.Close())
	assertEmpty(t, s, "t", "x")
}

// deleted waits until what was removed is.
func deleted(t *testing.T, s *Store) {
	t.Helper()
	for range 2000 {
		if left, err := os.ReadDir(filepath.Join(s.dir, "x")); err != nil || len(left) == 0 {
			must(t, err)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("what was removed is not deleted")
}

// What Close leaves to be deleted is deleted when the store is open again.
func TestCloseDoesNotWaitForDeletion(t *testing.T) {
	needRoot(t)
	s, err := Open(t.TempDir())
	must(t, err)
	for i := range 2000 {
		must(t, os.MkdirAll(filepath.Join(s.dir, "t/large", strconv.Itoa(i)), 0o755))
	}
	must(t, os.Rename(filepath.Join(s.dir, "t/large"), filepath.Join(s.dir, "x/large")))
	s.trash.wake()
	s = reopen(t, s, "")
	deleted(t, s)
	must(t, s.Close())
}

func TestRemoveAndCollect(t *testing.T) {
	needRoot(t)
	s, err := Open(t.TempDir())
	must(t, err)
	a, b, c := unpack(t, s, file{name: "a"}), unpack(t, s, file{name: "b"}), unpack(t, s, file{name: "c", body: "c"})
	size, _ := s.Size(c)
	prepare(t, s, "c1", a)
	must(t, s.Remove(t.Context(), "c0"))
	won, err := s.Collect(t.Context(), func(id digest.Digest) bool { return id == b })
	if err != nil || won != size || !s.Has(a) || !s.Has(b) || s.Has(c) {
		t.Error(won, size, err, s.Has(a), s.Has(b), s.Has(c))
	}
	must(t, s.Remove(t.Context(), "c1"))
	if _, err := s.Rootfs("c1"); err == nil {
		t.Error("removed and still there")
	}
	_, err = s.Collect(t.Context(), func(digest.Digest) bool { return false })
	must(t, err)
	deleted(t, s)
	must(t, s.Close())
	assertEmpty(t, s, "c", "l", "t", "x")
}

// TestFullDisk unpacks onto a filesystem that is too small: the error says so, and nothing is left.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends, and its mount namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Error(err)
			return
		}
		fullDisk(t, dir)
	}()
	<-done
}

func fullDisk(t *testing.T, dir string) {
	s, err := Open(dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	body := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(body)
	data := makeTar(t, file{name: "dir/big", body: string(body)})
	err = s.Unpack(t.Context(), digest.FromBytes(data), gzipLayer, bytes.NewReader(compress(t, data)))
	f, ok := fault.As(err)
	if !ok || f.Code != "disk-full" || !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	for _, sub := range []string{"l", "t"} {
		if names, err := readNames(s.fd, sub); err != nil || len(names) > 0 {
			t.Error("left behind:", sub, names, err)
		}
	}
}

func TestSyncBehind(t *testing.T) {
	needRoot(t)
	s, err := Open(t.TempDir())
	must(t, err)
	a := unpack(t, s, file{name: "a", body: "a"})
	s.SyncBehind()
	s.SyncBehind()
	s = reopen(t, s, "another boot") // Close waits.
	if !s.Has(a) {
		t.Error("the layer is gone after a crash of the machine")
	}
	must(t, s.Close())
}

func TestSyncOfCollected(t *testing.T) {
	needRoot(t)
	s, err := Open(t.TempDir())
	must(t, err)
	a := unpack(t, s, file{name: "a", body: "a"})
	pending := s.unsynced()
	_, err = s.Collect(t.Context(), func(digest.Digest) bool { return false })
	must(t, err)
	if again := unpack(t, s, file{name: "a", body: "a"}); again != a {
		t.Fatal(again)
	}
	must(t, s.markSynced(pending))
	s = reopen(t, s, "another boot")
	if s.Has(a) {
		t.Error("a layer counts as safe that was unpacked after the sync")
	}
	must(t, s.Close())
}
