package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// flight is an Unpack under way, for those who want the same layer.
type flight struct {
	done chan struct{}
	err  error // valid once done is closed
}

// Unpack reads a layer as stored or transferred and unpacks it. Its compression is told from the bytes, as registries are
// full of media types that are wrong about it; what mediaType can do is name a layer that cannot be unpacked at all. The
// digest of the uncompressed tar, with what follows its end marker, must be diffID; another one is an
// errdefs.ErrInvalidArgument fault and leaves nothing. Two calls for one layer at a time share the work of the first; the
// second drains its reader, as does one for a layer that is there. Nothing is synced: see Sync.
func (s *Store) Unpack(ctx context.Context, diffID digest.Digest, mediaType string, r io.Reader) error {
	if err := diffID.Validate(); err != nil || diffID.Algorithm() != digest.SHA256 {
		return fmt.Errorf("unpack layer: diff id %q is not a sha256 digest: %w", diffID, errdefs.ErrInvalidArgument)
	}
	if strings.HasSuffix(mediaType, "+encrypted") {
		return fmt.Errorf("unpack layer %s: media type %s is encrypted: %w", diffID, mediaType, errdefs.ErrNotImplemented)
	}
	s.mu.Lock()
	there, under := s.has(diffID), s.flights[diffID]
	f := &flight{done: make(chan struct{})}
	if !there && under == nil {
		s.flights[diffID] = f
	}
	s.mu.Unlock()
	if there || under != nil {
		return share(ctx, diffID, under, r)
	}
	_, f.err = s.unpack(ctx, diffID, r)
	s.mu.Lock()
	delete(s.flights, diffID)
	s.mu.Unlock()
	close(f.done)
	return f.err
}

// share drains the reader of a layer that is there, or that another call is unpacking.
func share(ctx context.Context, diffID digest.Digest, under *flight, r io.Reader) error {
	if _, err := io.Copy(io.Discard, &ctxReader{ctx, r}); err != nil {
		return fmt.Errorf("unpack layer %s: %w", diffID, err)
	}
	if under == nil {
		return nil
	}
	select {
	case <-under.done:
		return under.err
	case <-ctx.Done():
		return fmt.Errorf("unpack layer %s: %w", diffID, context.Cause(ctx))
	}
}

// Ingest unpacks a layer (plain, gzip or zstd tar, told from its bytes) whose diff id is not known yet, and returns it:
// the digest of the uncompressed tar. A layer that is there already is kept; what was unpacked is dropped.
func (s *Store) Ingest(ctx context.Context, r io.Reader) (digest.Digest, error) {
	return s.unpack(ctx, "", r)
}

type ctxReader struct {
	ctx context.Context //nolint:containedctx // lives as long as the one copy that made it
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// unpack makes the layer under a temporary name and publishes it. An empty want takes whatever digest comes out.
func (s *Store) unpack(ctx context.Context, want digest.Digest, r io.Reader) (digest.Digest, error) {
	return s.unpackWith(ctx, want, r, nil, nil)
}

// unpackAs unpacks a layer of which more is known than its tar tells: known adds it.
func (s *Store) unpackAs(ctx context.Context, r io.Reader, h *Hold, known func(*unpacked)) (digest.Digest, error) {
	return s.unpackWith(ctx, "", r, h, known)
}

func (s *Store) unpackWith(ctx context.Context, want digest.Digest, r io.Reader, h *Hold, known func(*unpacked)) (digest.Digest, error) {
	tmp := "t/" + randomName()
	l, err := s.build(ctx, tmp, want, r, known)
	if err == nil {
		err = s.publish(tmp, l, h)
	}
	if err == nil {
		return l.DiffID, nil
	}
	if rerr := sys.RemoveAllAt(s.fd, tmp); rerr != nil {
		// What stays is deleted when the store is opened next; the cause is what counts.
		err = fmt.Errorf("%w (%w)", err, rerr)
	}
	return "", s.explain(want, err)
}

// build unpacks into the directory tmp.
func (s *Store) build(ctx context.Context, tmp string, want digest.Digest, r io.Reader, known func(*unpacked)) (*unpacked, error) {
	if err := unix.Mkdirat(s.fd, tmp, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := unix.Mkdirat(s.fd, tmp+"/d", 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	root, err := sys.OpenRoot(filepath.Join(s.dir, tmp, "d"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	stats, got, err := s.extract(ctx, root, r)
	if err != nil {
		return nil, err
	}
	if want != "" && got != want {
		return nil, &mismatch{want, got}
	}
	return s.describe(tmp, root, got, stats, known)
}

// extract unpacks r into root and returns the digest of the tar.
func (s *Store) extract(ctx context.Context, root *sys.Root, r io.Reader) (archive.Stats, digest.Digest, error) {
	src := newStream(&ctxReader{ctx, r})
	stats, err := archive.Untar(ctx, root, ".", src, archive.UntarOptions{Layer: true, UserXattr: s.userXattr})
	if err != nil {
		src.abort()
		return stats, "", src.cause(err)
	}
	sum, err := src.finish()
	if err != nil {
		return stats, "", src.cause(err)
	}
	return stats, digest.NewDigestFromBytes(digest.SHA256, sum), nil
}

// cause tells a stream that could not be read from one that is wrong.
func (s *stream) cause(err error) error {
	if s.src.err != nil {
		return s.src.err
	}
	if s.err != nil && !errors.Is(s.err, errdefs.ErrNotImplemented) {
		return &corrupt{s.err}
	}
	if errors.Is(err, errdefs.ErrInvalidArgument) {
		return &corrupt{err}
	}
	return err
}

// describe measures the layer and writes down what is known about it.
func (s *Store) describe(tmp string, root *sys.Root, id digest.Digest, stats archive.Stats, known func(*unpacked)) (*unpacked, error) {
	size, err := usage(root.Fd())
	if err != nil {
		return nil, err
	}
	l := &unpacked{layerMeta: layerMeta{
		DiffID: id, Size: size, Empty: stats.Entries == 0 && !stats.Opaque, Opaque: stats.Opaque, Boot: s.boot,
	}}
	if stats.Root {
		st, err := root.Stat(".")
		if err != nil {
			return nil, err
		}
		l.Root = &rootMeta{Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid)}
	}
	if known != nil {
		known(l)
	}
	return l, s.writeMeta(tmp+"/m", &l.layerMeta)
}

// publish gives the layer its name, and has h hold it if there is one. If somebody else was faster, theirs stays.
func (s *Store) publish(tmp string, l *unpacked, h *Hold) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h != nil {
		h.take(l.DiffID)
	}
	if s.layers[l.DiffID] != nil {
		return s.throwAway(tmp)
	}
	if l.Under != "" && s.layers[l.Under] == nil {
		return fmt.Errorf("publish layer: %w", errNoLayer(l.Under))
	}
	for _, name := range shortNames(l.DiffID) {
		if s.names[name] != nil {
			continue
		}
		l.name = name
		if err := unix.Renameat2(s.fd, tmp, s.fd, "l/"+name, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("publish layer: %w", err)
		}
		s.layers[l.DiffID], s.names[name] = l, l
		return nil
	}
	return fmt.Errorf("publish layer: all names of %s are taken", l.DiffID)
}

type mismatch struct{ want, got digest.Digest }

func (e *mismatch) Error() string { return fmt.Sprintf("its content has digest %s", e.got) }

type corrupt struct{ err error }

func (e *corrupt) Error() string { return e.err.Error() }
func (e *corrupt) Unwrap() error { return e.err }

// explain makes a fault of what a person can do something about.
func (s *Store) explain(id digest.Digest, err error) error {
	name := "layer"
	if id != "" {
		name += " " + id.String()
	}
	var bad *corrupt
	var other *mismatch
	if errors.As(err, &bad) || errors.As(err, &other) {
		return &fault.Error{
			Code: "layer-corrupt", What: name + " is corrupt: " + err.Error(), Cause: err.Error(), Try: "fetch or make it again",
			Class: errdefs.ErrInvalidArgument, Err: err,
		}
	}
	return content.ExplainFull(s.dir, fmt.Errorf("unpack %s: %w", name, err))
}
