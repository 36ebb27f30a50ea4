package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/kistdev/kist/internal/inflate"
	"github.com/kistdev/kist/internal/xz"
)

// Compression of a stream, told from its first bytes.
type Compression string

// The compressions that are recognised.
const (
	Plain Compression = "plain"
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
	Bzip2 Compression = "bzip2"
	Xz    Compression = "xz"
)

// sniff is how many bytes Detect wants to see.
const sniff = 6

// Detect tells the compression from the first bytes of a stream; at least six, unless the stream is shorter.
func Detect(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 0x08}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(head):
		return Zstd
	case bytes.HasPrefix(head, []byte("BZh")):
		return Bzip2
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return Xz
	}
	return Plain
}

// skippable says whether head is a skippable zstd frame, with which zstd:chunked and pzstd streams may begin.
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// Decompress returns what r holds, decompressed if it is compressed. Reading to the end also verifies r's checksums.
// Closing gives memory back and leaves r alone.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	buf := bufio.NewReaderSize(r, 4<<10) // the decompressors' larger reads pass it by
	head, err := buf.Peek(sniff)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	kind := Detect(head)
	rc, err := decompressor(kind, buf)
	if err != nil {
		return nil, kind, fmt.Errorf("read %s stream: %w", kind, err)
	}
	return rc, kind, nil
}

func decompressor(kind Compression, r *bufio.Reader) (io.ReadCloser, error) {
	switch kind {
	case Gzip:
		return io.NopCloser(inflate.NewReader(r)), nil
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case Xz:
		return io.NopCloser(xz.NewReader(r)), nil
	default:
		return io.NopCloser(r), nil
	}
}

// maxWindow bounds what a zstd frame can make us allocate. 128 MiB is what `zstd --ultra --long` needs at most by default.
const maxWindow = 128 << 20
