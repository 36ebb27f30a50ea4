package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, d digest.Digest, size int64) *Writer {
	t.Helper()
	w, err := s.Create(context.Background(), d, size)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// put stores a blob.
func put(t *testing.T, s *Store, raw []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(raw)
	w := create(t, s, d, int64(len(raw)))
	defer w.Close()
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return d
}

func none(digest.Digest) bool { return false }

func TestWriteAndRead(t *testing.T) {
	s := open(t, t.TempDir())
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		raw := []byte("hello " + algorithm)
		d := algorithm.FromBytes(raw)
		w := create(t, s, d, -1)
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
		if s.Has(d) {
			t.Error("the blob is there before it is committed")
		}
		if got, err := w.Commit(); got != d || err != nil {
			t.Fatal(got, err)
		}
		if got, err := s.Bytes(d, 100); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%q %v", got, err)
		}
		if _, err := s.Bytes(d, 3); !errdefs.IsInvalidArgument(err) {
			t.Errorf("over the limit: %v", err)
		}
		if _, err := s.Create(context.Background(), d, -1); !errdefs.IsAlreadyExists(err) {
			t.Errorf("a second time: %v", err)
		}
		if err := s.Delete(d); err != nil || s.Has(d) {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := s.Open(digest.FromString("nothing")); !errdefs.IsNotFound(err) {
		t.Errorf("a blob that is not there: %v", err)
	}
	for _, bad := range []digest.Digest{"", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", "x"} {
		if _, err := s.Create(context.Background(), bad, 1); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
		if s.Has(bad) {
			t.Errorf("has %q", bad)
		}
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
}

func TestWrongBlobsAreDropped(t *testing.T) {
	raw := []byte("right")
	for _, tc := range []struct {
		name, bytes string
		size        int64
	}{{"digest", "wrong", 5}, {"short", "rig", 5}, {"long", "right and more", 5}} {
		s := open(t, t.TempDir())
		w := create(t, s, digest.FromBytes(raw), tc.size)
		follow, err := w.Follow()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write([]byte(tc.bytes))
		if err == nil {
			_, err = w.Commit()
		} else {
			w.Fail(err)
		}
		if f, ok := fault.As(err); !ok || f.Code != "blob-corrupt" || !errdefs.IsDataLoss(err) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if _, err := io.ReadAll(follow); !errdefs.IsDataLoss(err) {
			t.Errorf("%s: the follower got %v", tc.name, err)
		}
		follow.Close()
		if n, err := s.Partial(); n != 0 || err != nil {
			t.Errorf("%s: %d bytes are left, %v", tc.name, n, err)
		}
		w.Close()
	}
}

func TestResumeOverRestart(t *testing.T) {
	dir := t.TempDir()
	raw := []byte("a blob that comes in two parts")
	d := digest.FromBytes(raw)
	w := create(t, open(t, dir), d, int64(len(raw)))
	if _, err := w.Write(raw[:10]); err != nil {
		t.Fatal(err)
	}
	// Killed: nobody closes the writer.
	s := open(t, dir)
	again := create(t, s, d, int64(len(raw)))
	if again.Offset() != 10 {
		t.Fatalf("goes on at %d", again.Offset())
	}
	follow, err := again.Follow()
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Close()
	if _, err := again.Write(raw[10:]); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(follow); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("followed %q, %v", got, err)
	}
}

func TestFollowWhileWriting(t *testing.T) {
	s := open(t, t.TempDir())
	lease := s.Lease()
	defer lease.Release()
	w, err := s.Draft(lease)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	var wg sync.WaitGroup
	for range 3 {
		follow, err := w.Follow()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer follow.Close()
			h := digest.SHA256.Digester()
			if _, err := io.Copy(h.Hash(), follow); err != nil {
				t.Error(err)
			}
			if h.Digest() != digest.FromBytes(want.Bytes()) {
				t.Error("the follower read something else")
			}
		})
	}
	for i := range 1000 {
		part := fmt.Appendf(nil, "%d,", i)
		want.Write(part)
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	d, err := w.Commit()
	if err != nil || d != digest.FromBytes(want.Bytes()) {
		t.Error(d, err)
	}
	wg.Wait()
	if won, err := s.Sweep(func(leased Keep) (Keep, error) { return none, nil }); won != 0 || err != nil || !s.Has(d) {
		t.Errorf("a draft's blob was not leased: %d %v", won, err)
	}
}

func TestFollowersOfAnAbandonedBlobEnd(t *testing.T) {
	s := open(t, t.TempDir())
	w := create(t, s, digest.FromString("x"), -1)
	follow, err := w.Follow()
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(follow)
		ended <- err
	}()
	if _, err := w.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	w.Fail(cause)
	if err := <-ended; !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Write([]byte("late")); err == nil {
		t.Error("a closed writer wrote")
	}
}

func TestRestart(t *testing.T) {
	s := open(t, t.TempDir())
	d := digest.FromString("right")
	w := create(t, s, d, 5)
	defer w.Close()
	w.Write([]byte("wro"))
	follow, err := w.Follow()
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Close()
	if err := w.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(follow); err == nil {
		t.Error("a follower of what was dropped met no error")
	}
	w.Write([]byte("right"))
	if _, err := w.Commit(); err != nil {
		t.Error(err)
	}
}

func TestOneWriterAtATime(t *testing.T) {
	s := open(t, t.TempDir())
	d := digest.FromString("x")
	w := create(t, s, d, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Create(ctx, d, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second writer did not wait: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := s.Create(context.Background(), d, 1)
		second <- err
	}()
	w.Write([]byte("x"))
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; !errdefs.IsAlreadyExists(err) {
		t.Errorf("the second writer got %v", err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	s := open(t, t.TempDir())
	d := put(t, s, []byte("some bytes"))
	name := filepath.Join(s.Dir(), "blobs/sha256", d.Encoded())
	if err := os.WriteFile(name, []byte("same bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Bytes(d, 100)
	if f, ok := fault.As(err); !ok || f.Code != "blob-damaged" || !errdefs.IsDataLoss(err) {
		t.Errorf("got %v", err)
	}
}

func TestSweep(t *testing.T) {
	s := open(t, t.TempDir())
	named, leased, loose := put(t, s, []byte("named")), put(t, s, []byte("leased")), put(t, s, []byte("loose"))
	lease := s.Lease()
	lease.Hold(leased, leased)
	sweep := func() int64 {
		won, err := s.Sweep(func(keep Keep) (Keep, error) {
			if !keep(leased) && s.Has(leased) && lease.held != nil {
				t.Error("mark is not told what is leased")
			}
			return func(d digest.Digest) bool { return d == named }, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return won
	}
	if won := sweep(); won != 5 || s.Has(loose) || !s.Has(named) || !s.Has(leased) {
		t.Errorf("won %d", won)
	}
	lease.Release()
	lease.Release()
	lease.Hold(named) // A released lease holds nothing.
	if won := sweep(); won != 6 || s.Has(leased) {
		t.Errorf("won %d after the release", won)
	}
	failed := errors.New("failed")
	if _, err := s.Sweep(func(Keep) (Keep, error) { return nil, failed }); !errors.Is(err, failed) || !s.Has(named) {
		t.Errorf("a sweep whose mark failed: %v", err)
	}
}

func TestRecover(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	raw := []byte("never acknowledged")
	kept, loose := put(t, s, []byte("kept")), put(t, s, raw)
	w, err := s.Draft(s.Lease())
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("draft"))
	old := create(t, s, digest.FromString("old"), 3)
	old.Write([]byte("ol"))
	past := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old.file.Name(), past, past); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if err := s.Recover(func(d digest.Digest) bool { return d == kept }); err != nil {
		t.Fatal(err)
	}
	if !s.Has(kept) || s.Has(loose) {
		t.Error("the wrong blob was taken back")
	}
	if n, err := s.Partial(); n != int64(len(raw)) || err != nil {
		t.Errorf("%d bytes of partial blobs, %v", n, err)
	}
	again := create(t, s, loose, int64(len(raw)))
	if again.Offset() != int64(len(raw)) {
		t.Errorf("the blob has to be fetched again from %d", again.Offset())
	}
	if _, err := again.Commit(); err != nil || !s.Has(loose) {
		t.Errorf("recovered blob: %v", err)
	}
}

func TestIndex(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	index, err := s.Index()
	if err != nil || len(index.Manifests) != 0 {
		t.Fatal(index, err)
	}
	index.Manifests = append(index.Manifests, ocispec.Descriptor{Digest: digest.FromString("x")})
	if err := s.SetIndex(index); err != nil {
		t.Fatal(err)
	}
	if again, err := open(t, dir).Index(); err != nil || len(again.Manifests) != 1 {
		t.Errorf("%v %v", again, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Index(); !errdefs.IsDataLoss(err) {
		t.Errorf("half an index: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a tmpfs: " + err.Error())
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := open(t, dir)
	w := create(t, s, digest.FromString("x"), -1)
	defer w.Close()
	_, err := w.Write(make([]byte, 2<<20))
	if f, ok := fault.As(err); !ok || f.Code != "disk-full" || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

// TestDamagedBlobIsWrittenAgain: a file that is not the blob of its name does not keep the blob from being brought again.
func TestDamagedBlobIsWrittenAgain(t *testing.T) {
	s := open(t, t.TempDir())
	small, large := []byte("a configuration"), bytes.Repeat([]byte("layer"), smallBlob)
	for name, tc := range map[string]struct {
		blob    []byte
		file    []byte
		rewrite bool
	}{
		"whole":              {small, small, false},
		"empty":              {small, nil, true},
		"other bytes":        {small, []byte("b configuration"), true},
		"large, whole":       {large, large, false},
		"large, cut off":     {large, large[:100], true},
		"large, other bytes": {large, append([]byte("X"), large[1:]...), false}, // not looked for: doctor --deep does
	} {
		d := put(t, s, tc.blob)
		path, err := s.blobPath(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, tc.file, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := s.Create(t.Context(), d, int64(len(tc.blob)))
		if rewrite := err == nil; rewrite != tc.rewrite || !rewrite && !errdefs.IsAlreadyExists(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			w.Discard(errUnfinished)
		}
		if err := s.Delete(d); err != nil {
			t.Fatal(err)
		}
	}
}
