package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Streams of a multiplexed stream's frames.
const (
	frameStdin  = 0
	frameStdout = 1
	frameStderr = 2
	frameSystem = 3
)

// Demux copies a multiplexed stream to its two destinations until it ends.
//
// A frame is one byte of stream, three of zero, four of length (big endian), and the data.
func Demux(stdout, stderr io.Writer, src io.Reader) error {
	var head [8]byte
	buf := make([]byte, 32<<10)
	for {
		if _, err := io.ReadFull(src, head[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("read the container's output: %w", err)
		}
		size := int64(binary.BigEndian.Uint32(head[4:]))
		var dst io.Writer
		switch head[0] {
		case frameStdin, frameStdout:
			dst = stdout
		case frameStderr:
			dst = stderr
		case frameSystem:
			msg, err := io.ReadAll(io.LimitReader(src, min(size, maxErrorBody)))
			if err != nil {
				return fmt.Errorf("read the container's output: %w", err)
			}
			return errors.New(string(msg))
		default:
			return fmt.Errorf("the container's output came in an unknown form (frame of stream %d)", head[0])
		}
		if err := copyFrame(dst, src, size, buf); err != nil {
			return err
		}
	}
}

func copyFrame(dst io.Writer, src io.Reader, size int64, buf []byte) error {
	for size > 0 {
		n, err := src.Read(buf[:min(size, int64(len(buf)))])
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
			size -= int64(n)
		}
		if err != nil && size > 0 {
			return fmt.Errorf("read the container's output: %w", noEOF(err))
		}
	}
	return nil
}
