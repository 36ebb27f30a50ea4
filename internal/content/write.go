package content

import (
	"context"
	_ "crypto/sha256" // the algorithms that digests may name
	_ "crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
)

// Writer writes one blob. One goroutine writes; any number may follow it.
type Writer struct {
	s       *Store
	digest  digest.Digest // what the bytes must have, empty for a draft
	size    int64         // what they must count, negative if not known
	file    *os.File
	hash    hash.Hash
	lease   *Lease // takes up a draft's digest
	release func() // lets the next writer of this blob in
	pushed  int64  // how far the disk was asked to write

	mu   sync.Mutex // guards what follows
	more *sync.Cond
	n    int64
	lap  int // counts restarts
	done bool
	err  error // why a done writer has no blob
}

// Create opens the partial file of blob d for writing, behind the bytes which earlier attempts left in it (see Offset).
// A size below zero is not known. While another writer of the same blob is open, Create waits for it; when the
// blob is there, it returns an errdefs.ErrAlreadyExists.
func (s *Store) Create(ctx context.Context, d digest.Digest, size int64) (*Writer, error) {
	final, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	release, err := s.writing.Take(ctx, d)
	if err != nil {
		return nil, err
	}
	w, err := s.resume(d, size, final)
	if err != nil {
		release()
		return nil, err
	}
	w.release = release
	return w, nil
}

func (s *Store) resume(d digest.Digest, size int64, final string) (*Writer, error) {
	if fi, err := os.Lstat(final); err == nil {
		if s.sound(d, fi, size) {
			return nil, fmt.Errorf("blob %s: %w", d, errdefs.ErrAlreadyExists)
		}
		// Whoever brings the blob again mends it; the rename would replace it, but readers shall not meet it until then.
		if err := os.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove the damaged blob %s: %w", d, err)
		}
	}
	f, err := os.OpenFile(filepath.Join(s.dir, ingestDir, partialName(d)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, s.explain(fmt.Errorf("begin blob %s: %w", d, err))
	}
	w := newWriter(s, f)
	w.digest, w.size, w.hash = d, size, d.Algorithm().Hash()
	if err := w.rehash(); err != nil {
		f.Close()
		return nil, fmt.Errorf("resume blob %s: %w", d, err)
	}
	return w, nil
}

// smallBlob is what manifests and configurations stay below: reading one again costs nothing beside what is about to be written.
const smallBlob = 64 << 10

// sound says whether the file of a blob that is to be written is what it should be, as far as that is known quickly: its
// size, and the digest of a small one.
func (s *Store) sound(d digest.Digest, fi fs.FileInfo, size int64) bool {
	switch {
	case size >= 0 && fi.Size() != size:
		return false
	case fi.Size() > smallBlob:
		return true
	}
	_, err := s.Bytes(d, smallBlob)
	return !errdefs.IsDataLoss(err)
}

// Draft opens a blob whose digest is told by Commit, and held by the lease from then on. It is not kept over a restart.
func (s *Store) Draft(l *Lease) (*Writer, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, ingestDir), "draft-*")
	if err != nil {
		return nil, s.explain(fmt.Errorf("begin blob: %w", err))
	}
	w := newWriter(s, f)
	w.size, w.hash, w.lease, w.release = -1, digest.Canonical.Hash(), l, func() {}
	return w, nil
}

func newWriter(s *Store, f *os.File) *Writer {
	w := &Writer{s: s, file: f}
	w.more = sync.NewCond(&w.mu)
	return w
}

// rehash takes up the hash where the last attempt died, by reading what it wrote. Bytes beyond the size cannot be right.
func (w *Writer) rehash() error {
	fi, err := w.file.Stat()
	if err != nil {
		return err
	}
	if w.size >= 0 && fi.Size() > w.size {
		return w.file.Truncate(0)
	}
	w.n, err = io.Copy(w.hash, w.file)
	return err
}

// Offset is the number of bytes written so far, by this and earlier attempts.
func (w *Writer) Offset() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// Write appends to the blob. It fails as soon as there are more bytes than the blob has.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	at, done := w.n, w.done
	w.mu.Unlock()
	if done {
		return 0, fs.ErrClosed
	}
	if w.size >= 0 && at+int64(len(p)) > w.size {
		return 0, w.mismatch(fmt.Sprintf("more than the %d bytes it should have", w.size))
	}
	n, err := w.file.WriteAt(p, at)
	w.hash.Write(p[:n])
	w.mu.Lock()
	w.n += int64(n)
	w.mu.Unlock()
	w.more.Broadcast()
	w.push(at + int64(n))
	if err != nil {
		return n, w.s.explain(fmt.Errorf("write blob: %w", err))
	}
	return n, nil
}

// Restart drops what was written: the bytes were wrong, the next ones are the blob from its start. Followers fail, and
// have to follow anew.
func (w *Writer) Restart() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n, w.pushed = 0, 0
	w.lap++
	w.hash.Reset()
	w.more.Broadcast()
	return w.file.Truncate(0)
}

// Commit verifies the blob and gives it its place. A blob whose size or digest is wrong is dropped with an
// errdefs.ErrDataLoss fault. Commit or Close must be called; Close after Commit does nothing.
func (w *Writer) Commit() (digest.Digest, error) {
	got := digest.NewDigest(w.algorithm(), w.hash)
	if w.size >= 0 && w.Offset() != w.size {
		err := w.mismatch(fmt.Sprintf("%d bytes instead of %d", w.Offset(), w.size))
		w.end(err, w.drop)
		return "", err
	}
	if w.digest != "" && got != w.digest {
		err := w.mismatch("the bytes received have the digest " + got.String())
		w.end(err, w.drop)
		return "", err
	}
	if w.lease != nil {
		w.lease.Hold(got)
	}
	if err := w.place(got); err != nil {
		err = w.s.explain(fmt.Errorf("commit blob %s: %w", got, err))
		w.end(err, w.drop)
		return "", err
	}
	w.end(nil, nil)
	return got, nil
}

func (w *Writer) algorithm() digest.Algorithm {
	if w.digest == "" {
		return digest.Canonical
	}
	return w.digest.Algorithm()
}

func (w *Writer) place(d digest.Digest) error {
	final, err := w.s.blobPath(d)
	if err != nil {
		return err
	}
	if err := w.file.Chmod(0o644); err != nil {
		return err
	}
	err = os.Rename(w.file.Name(), final)
	if errors.Is(err, fs.ErrNotExist) { // The first blob of another algorithm.
		if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
			return err
		}
		err = os.Rename(w.file.Name(), final)
	}
	if err == nil {
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		w.s.unsafe[d] = struct{}{}
	}
	return err
}

// errUnfinished is what followers of an abandoned writer get.
var errUnfinished = errors.New("the blob was not finished")

// Close abandons the blob. What was written stays for the next attempt, unless it is a draft.
func (w *Writer) Close() error {
	if w.digest == "" {
		w.end(errUnfinished, w.drop)
	} else {
		w.end(errUnfinished, nil)
	}
	return nil
}

// Fail abandons the blob and tells followers why.
func (w *Writer) Fail(err error) {
	if w.digest == "" {
		w.end(err, w.drop)
	} else {
		w.end(err, nil)
	}
}

// Discard is Fail for a blob whose bytes are of no use to a next attempt.
func (w *Writer) Discard(err error) { w.end(err, w.drop) }

func (w *Writer) drop() { os.Remove(w.file.Name()) }

// end makes the writer done, once.
func (w *Writer) end(err error, last func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	w.done, w.err = true, err
	if last != nil {
		last()
	}
	w.file.Close()
	w.release()
	w.more.Broadcast()
}

func (w *Writer) mismatch(cause string) error {
	what := "a blob is corrupt"
	if w.digest != "" {
		what = "blob " + w.digest.String() + " is corrupt"
	}
	return &fault.Error{Code: "blob-corrupt", What: what, Cause: cause, Class: errdefs.ErrDataLoss}
}
