package logfile

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	packedSuffix = ".gz"
	// tempSuffix ends the name of a compressed file that is being made. The name is not one that a reader looks for.
	tempSuffix = ".gz.tmp"
)

func rotated(path string, n int) string { return path + "." + strconv.Itoa(n) }

// rotate moves every file one number up, the oldest away, and begins a new one. The caller holds w.mu.
func (w *Writer) rotate() error {
	w.waitPacked()
	if err := w.shift(); err != nil {
		return err
	}
	old := w.file
	w.file = nil
	if old != nil {
		old.Close() // nothing is buffered: an error could not be acted on
	}
	if err := w.create(); err != nil {
		return err
	}
	if w.c.Compress && w.c.maxFiles() > 1 {
		w.pack()
	}
	return w.begin()
}

func (w *Writer) create() error {
	f, err := os.OpenFile(w.c.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	w.file, w.size = f, 0
	return nil
}

func (w *Writer) shift() error {
	path, last := w.c.Path, w.c.maxFiles()-1
	if last == 0 {
		return ignoreMissing(os.Remove(path)) // a reader that has it open still reads it to its end
	}
	for _, suffix := range []string{"", packedSuffix} {
		if err := ignoreMissing(os.Remove(rotated(path, last) + suffix)); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	for n := last - 1; n >= 1; n-- {
		for _, suffix := range []string{"", packedSuffix} {
			if err := ignoreMissing(os.Rename(rotated(path, n)+suffix, rotated(path, n+1)+suffix)); err != nil {
				return fmt.Errorf("rotate log: %w", err)
			}
		}
	}
	if err := ignoreMissing(os.Rename(path, rotated(path, 1))); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// packing is one compression in the background.
type packing struct{ done chan struct{} }

// packers bounds the memory that compressions take in one process.
var packers = make(chan struct{}, 1)

func (w *Writer) pack() {
	p := &packing{done: make(chan struct{})}
	w.packing = p
	path := rotated(w.c.Path, 1)
	go func() {
		defer close(p.done)
		packers <- struct{}{}
		defer func() { <-packers }()
		if err := packFile(path); err != nil {
			slog.Warn("compress log", "path", path, "error", err)
		}
	}()
}

// waitPacked waits for the compression: its file must not move meanwhile. The caller holds w.mu.
func (w *Writer) waitPacked() {
	if w.packing != nil {
		<-w.packing.done
		w.packing = nil
	}
}

// packFile makes path.gz of path. The compressed file appears before the plain one goes.
func packFile(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	temp := path + tempSuffix
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		out.Close()
		if err != nil {
			os.Remove(temp)
		}
	}()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	z.ModTime = info.ModTime()
	z.Extra = originExtra(info)
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path+packedSuffix); err != nil {
		return err
	}
	return os.Remove(path)
}

// identity tells a file from others, also after it was compressed: a number alone may be in use again by then.
type identity struct {
	inode    uint64
	modified int64 // nanoseconds
}

func identify(info fs.FileInfo) identity {
	return identity{inode(info), info.ModTime().UnixNano()}
}

// originExtra is a gzip extra field, "KL", with the identity of the file that was compressed.
func originExtra(info fs.FileInfo) []byte {
	id := identify(info)
	b := binary.LittleEndian.AppendUint64([]byte{'K', 'L', 16, 0}, id.inode)
	return binary.LittleEndian.AppendUint64(b, uint64(id.modified))
}

func origin(extra []byte) (identity, bool) {
	if len(extra) != 20 || extra[0] != 'K' || extra[1] != 'L' {
		return identity{}, false
	}
	return identity{binary.LittleEndian.Uint64(extra[4:]), int64(binary.LittleEndian.Uint64(extra[12:]))}, true
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// siblings calls fn for the log's existing files: itself, rotated ones, and what an interrupted compression left.
func (c Config) siblings(fn func(path string, info fs.FileInfo) error) error {
	if c.Driver == driverNone {
		return nil
	}
	dir, base := splitPath(c.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		if !isSibling(e.Name(), base) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(dir+"/"+e.Name(), info); err != nil {
			return err
		}
	}
	return nil
}

func splitPath(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	switch {
	case i < 0:
		return ".", path
	case i == 0:
		return "", path[1:]
	}
	return path[:i], path[i+1:]
}

func isSibling(name, base string) bool {
	rest, ok := strings.CutPrefix(name, base)
	if !ok || rest == "" {
		return ok
	}
	rest = strings.TrimSuffix(strings.TrimSuffix(rest, tempSuffix), packedSuffix)
	if len(rest) < 2 || rest[0] != '.' {
		return false
	}
	_, err := strconv.ParseUint(rest[1:], 10, 32)
	return err == nil
}

// Size is the number of bytes the log occupies with its rotated files.
func Size(c Config) (int64, error) {
	var sum int64
	err := c.siblings(func(_ string, info fs.FileInfo) error {
		sum += info.Size()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("size of log: %w", err)
	}
	return sum, nil
}
