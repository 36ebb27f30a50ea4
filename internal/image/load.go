package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/fault"
)

// Limits for what an archive can make us hold in memory.
const (
	smallFile  = 8 << 20
	smallTotal = 64 << 20
	manyFiles  = 100_000
)

// loader reads one archive. Its files come in any order, so every file that looks like a layer is stored and unpacked as
// it comes, whatever image it will turn out to belong to; small ones are kept in memory until the end.
type loader struct {
	s      *Store
	lease  *content.Lease
	report Reporter
	known  map[digest.Digest]digest.Digest // diff ids of blobs
	unpack slots
	group  *errgroup.Group

	small  map[string][]byte
	held   int
	links  map[string]string
	layers map[string]*made // complete when the group is done
}

// toName is an image of the archive, or several platforms' of one index, and the names it gets.
type toName struct {
	entry
	names []reference.Named
}

// Load reads a docker or OCI archive, compressed or not, and unpacks its layers in parallel as they come. An image is
// returned once for each name that the archive gives it, with this name only.
func (s *Store) Load(ctx context.Context, r io.Reader, wish []ocispec.Platform, report Reporter) ([]*Image, error) {
	images, err := s.load(ctx, r, wish, report)
	if err != nil {
		s.tidy(err, nil)
		return nil, fmt.Errorf("load: %w", content.ExplainFull(s.content.Dir(), err))
	}
	for _, img := range images {
		s.emit(events.ActionLoad, img.ID.String(), img.ID.String(), img.Config.Config.Labels)
	}
	return images, nil
}

func (s *Store) load(ctx context.Context, r io.Reader, wish []ocispec.Platform, report Reporter) ([]*Image, error) {
	lease := s.content.Lease()
	defer lease.Release()
	l := &loader{
		s: s, lease: lease, report: report, known: s.knownLayers(), unpack: make(slots, unpackers),
		small: map[string][]byte{}, links: map[string]string{}, layers: map[string]*made{},
	}
	return l.load(ctx, r, wish)
}

func (l *loader) load(ctx context.Context, r io.Reader, wish []ocispec.Platform) ([]*Image, error) {
	if err := l.read(ctx, r); err != nil {
		return nil, err
	}
	list, err := l.images(ctx, wish)
	if err != nil {
		return nil, err
	}
	var images []*Image
	for _, n := range list {
		img, err := l.s.publish(n.entry, n.names)
		if err != nil {
			return nil, err
		}
		if len(n.names) == 0 {
			images = append(images, img)
		}
		for _, name := range n.names {
			one := *img
			one.Names = []string{name.String()}
			images = append(images, &one)
		}
	}
	return images, nil
}

// read stores and unpacks what the archive holds.
func (l *loader) read(ctx context.Context, r io.Reader) error {
	plain, _, err := archive.Decompress(r)
	if err != nil {
		return notAnArchive(err)
	}
	defer plain.Close()
	g, gctx := errgroup.WithContext(ctx)
	l.group = g
	err = l.entries(gctx, plain)
	if err == nil {
		// What is behind the archive's end is read too: a checksum, and a sender that wants to be heard out.
		_, err = io.Copy(io.Discard, plain)
	}
	// An unpacking that failed is the cause of the reading that failed, not the other way round.
	if werr := g.Wait(); werr != nil && (err == nil || gctx.Err() != nil && ctx.Err() == nil) {
		err = werr
	}
	if _, known := fault.As(err); !known && errors.Is(err, io.ErrUnexpectedEOF) {
		return &fault.Error{
			Code: "archive-cut-off", What: "the archive is cut off", Cause: "it ends before the image does: " + err.Error(),
			Try: "save or copy it again", Class: errdefs.ErrInvalidArgument, Err: err,
		}
	}
	return err
}

func (l *loader) entries(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && n == 0 {
			return notAnArchive(err)
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if n == manyFiles {
			return fmt.Errorf("the archive has more than %d files: %w", manyFiles, errdefs.ErrInvalidArgument)
		}
		if err := l.entry(ctx, h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func notAnArchive(err error) error {
	return &fault.Error{
		Code: "not-an-archive", What: "this is no image archive", Class: errdefs.ErrInvalidArgument, Err: err,
		Try: "kist import, if it holds a root filesystem",
	}
}

// archivePath is where an entry is in the archive, whatever it says.
func archivePath(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (l *loader) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := archivePath(h.Name)
	switch h.Typeflag {
	case tar.TypeSymlink:
		l.links[name] = archivePath(path.Join("/", path.Dir(name), h.Linkname))
		return nil
	case tar.TypeLink:
		l.links[name] = archivePath(h.Linkname)
		return nil
	case tar.TypeReg:
	default:
		return nil
	}
	buffered := bufio.NewReaderSize(r, 32<<10)
	head, err := buffered.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if isLayer(head) {
		return l.layer(ctx, name, h.Size, buffered, head)
	}
	return l.keep(name, h.Size, buffered)
}

// isLayer tells a layer from the other files of an archive, all of which are JSON or a word.
func isLayer(head []byte) bool {
	return archive.Detect(head) != archive.Plain || len(head) == 512 && string(head[257:262]) == "ustar"
}

// keep remembers a small file.
func (l *loader) keep(name string, size int64, r io.Reader) error {
	if size > smallFile || l.held+int(size) > smallTotal {
		return fmt.Errorf("neither a layer nor small enough for a description: %d bytes: %w", size, errdefs.ErrInvalidArgument)
	}
	raw, err := io.ReadAll(io.LimitReader(r, smallFile))
	if err != nil {
		return err
	}
	l.held += len(raw)
	l.small[name] = raw
	return nil
}

// blobDigest is the digest that a path in an OCI layout promises.
func blobDigest(name string) (digest.Digest, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != ocispec.ImageBlobsDir {
		return "", false
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2])
	return d, d.Validate() == nil
}

// resolve follows the links of older archives, which store a layer once for several images.
func (l *loader) resolve(name string) string {
	name = archivePath(name)
	for range 10 {
		next, ok := l.links[name]
		if !ok {
			break
		}
		name = next
	}
	return name
}

// knownLayers tells which layer a blob unpacks to, for the images that are here.
func (s *Store) knownLayers() map[digest.Digest]digest.Digest {
	known := map[digest.Digest]digest.Digest{}
	s.each(s.catalog.snapshot(), func(_ entry, r *record) {
		for i, l := range r.manifest.Layers {
			known[l.Digest] = r.config.RootFS.DiffIDs[i]
		}
	})
	return known
}
