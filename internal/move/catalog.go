package move

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/chunk"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// A layer never changes, so what pieces its files have is written down once it was looked through: in a file named by its diff
// id, which goes when the layer has gone. What such a file says is believed no further than to where a piece may be.

// listing is a layer's file.
func listing(dir string, id digest.Digest) string { return filepath.Join(dir, id.Encoded()+".pieces") }

func isListed(dir string, id digest.Digest) bool {
	_, err := os.Stat(listing(dir, id))
	return err == nil
}

// addLayer adds a layer's pieces. It returns how many bytes had to be read of the layer; none if that was done before.
func (s *stock) addLayer(ctx context.Context, layers *layer.Store, dir string, id digest.Digest) (read int64, err error) {
	n := s.addRoot(func() (*sys.Root, error) { return layers.OpenStack([]digest.Digest{id}) })
	if s.readListing(listing(dir, id), n) == nil {
		return 0, nil
	}
	root, err := s.roots[n].get()
	if err != nil {
		return 0, nil //nolint:nilerr // it has gone, or cannot be mounted alone: nothing is known of it
	}
	return s.writeListing(ctx, listing(dir, id), root, n)
}

var listingHead = []byte("kist pieces 1\n")

func (s *stock) readListing(name string, root int32) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	head := make([]byte, len(listingHead))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != string(listingHead) {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	for {
		l, err := readListed(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.add(root, l)
	}
}

// readListed reads a file's name and pieces.
func readListed(r *bufio.Reader) (*listed, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > 1<<16 {
		return nil, io.ErrUnexpectedEOF
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(r, name); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	l := &listed{path: string(name)}
	for {
		size, err := binary.ReadUvarint(r)
		if err != nil || size > chunk.Max {
			return nil, io.ErrUnexpectedEOF
		}
		if size == 0 {
			return l, nil
		}
		var sum chunk.Sum
		if _, err := io.ReadFull(r, sum[:]); err != nil {
			return nil, io.ErrUnexpectedEOF
		}
		l.sums, l.pieces = append(l.sums, sum), append(l.pieces, int32(size))
	}
}

func (s *stock) writeListing(ctx context.Context, name string, root *sys.Root, n int32) (read int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "listing-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 256<<10)
	if _, err := w.Write(listingHead); err != nil {
		return 0, err
	}
	var room []byte
	if read, err = lookThrough(ctx, root, func(l *listed) error {
		s.add(n, l)
		room = append(binary.AppendUvarint(room[:0], uint64(len(l.path))), l.path...)
		for i, sum := range l.sums {
			room = append(binary.AppendUvarint(room, uint64(l.pieces[i])), sum[:]...)
		}
		_, err := w.Write(append(room, 0))
		return err
	}); err != nil {
		return read, err
	}
	if err := w.Flush(); err != nil {
		return read, err
	}
	if os.Rename(f.Name(), name) != nil { // Another move has tidied up; this one knows the pieces all the same.
		_ = os.Remove(f.Name())
	}
	return read, nil
}

// tidyListings removes those of layers that have gone, and what a crash left.
func tidyListings(dir string, layers *layer.Store) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		hex, ok := strings.CutSuffix(e.Name(), ".pieces")
		if ok && layers.Has(digest.NewDigestFromEncoded(digest.SHA256, hex)) {
			continue
		}
		if ok || strings.HasPrefix(e.Name(), "listing-") || strings.HasPrefix(e.Name(), "recipe-") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
