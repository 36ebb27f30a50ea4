package move

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"

	"github.com/kistdev/kist/internal/fault"
)

// kind is what a frame holds: a byte, followed by the length of what it holds, four bytes.
type kind byte

const (
	kindMessage kind = 'J' // a message as JSON
	kindOps     kind = 'O' // operations of a recipe
	kindPacked  kind = 'Z' // the same, compressed with zstd
	kindBlob    kind = 'B' // bytes of a blob
	kindNeeds   kind = 'N' // bits: which pieces are needed
	kindEnd     kind = 'E' // the end of a tar, a blob or a list
	kindFailure kind = 'F' // the other side gives up: fault.Parts
)

// Bounds of frames. A batch is sent when it has batchSize bytes; one more operation may make it larger.
const (
	batchSize  = 384 << 10
	maxFrame   = 1 << 20
	maxMessage = 24 << 20 // an image's configuration and manifest, a container's configuration
)

// wire is one side of the conversation. One goroutine writes, one reads.
type wire struct {
	r      *bufio.Reader
	w      *bufio.Writer
	plain  bool
	packer *zstd.Encoder
	opener *zstd.Decoder
	buf    []byte
	sent   int64 // bytes of frames written
}

func newWire(conn io.ReadWriter, plain bool) (*wire, error) {
	w := &wire{r: bufio.NewReaderSize(conn, 256<<10), w: bufio.NewWriterSize(conn, 256<<10), plain: plain}
	var err error
	if w.packer, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	w.opener, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
	return w, err
}

func (w *wire) close() {
	w.opener.Close()
	_ = w.packer.Close() // It has written nothing to a stream.
}

// write sends a frame.
func (w *wire) write(k kind, b []byte) error {
	var head [5]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	if _, err := w.w.Write(head[:]); err != nil {
		return lost(err)
	}
	if _, err := w.w.Write(b); err != nil {
		return lost(err)
	}
	w.sent += int64(len(head) + len(b))
	return nil
}

func (w *wire) flush() error { return lost(w.w.Flush()) }

// ops sends operations of a recipe.
func (w *wire) ops(b []byte) error {
	if w.plain {
		return w.write(kindOps, b)
	}
	w.buf = w.packer.EncodeAll(b, w.buf[:0])
	if len(w.buf) >= len(b) {
		return w.write(kindOps, b)
	}
	return w.write(kindPacked, w.buf)
}

// unpack returns the operations that a frame holds.
func (w *wire) unpack(k kind, b, room []byte) ([]byte, error) {
	if k == kindOps {
		return b, nil
	}
	raw, err := w.opener.DecodeAll(b, room[:0])
	if err != nil {
		return nil, fmt.Errorf("decompress: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return raw, nil
}

// say sends a message and whatever waits before it.
func (w *wire) say(m *message) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := w.write(kindMessage, raw); err != nil {
		return err
	}
	return w.flush()
}

// fail tells the other side that this one gives up.
func (w *wire) fail(err error) error {
	raw, merr := json.Marshal(fault.PartsOf(err))
	if merr != nil {
		return merr
	}
	if err := w.write(kindFailure, raw); err != nil {
		return err
	}
	return w.flush()
}

// read returns the next frame; its bytes are valid until the next call with the same room.
func (w *wire) read(room []byte) (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, nil, lost(err)
	}
	k, n := kind(head[0]), int(binary.BigEndian.Uint32(head[1:]))
	if most := limitOf(k); n > most {
		return 0, nil, fmt.Errorf("a frame of %d bytes, where %d are the most: %w", n, most, errdefs.ErrInvalidArgument)
	}
	if cap(room) < n {
		room = make([]byte, n)
	}
	room = room[:n]
	if _, err := io.ReadFull(w.r, room); err != nil {
		return 0, nil, lost(err)
	}
	if k == kindFailure {
		return k, nil, readFailure(room)
	}
	return k, room, nil
}

func limitOf(k kind) int {
	if k == kindMessage || k == kindFailure {
		return maxMessage
	}
	return maxFrame
}

func unexpected(k kind) error {
	return fmt.Errorf("the other daemon says something else (%q) than what was to come: %w", byte(k), errdefs.ErrInvalidArgument)
}

// errLost is a connection that broke.
var errLost = fmt.Errorf("the connection broke: %w", errdefs.ErrUnavailable)

func lost(err error) error {
	if err == nil || errors.Is(err, errLost) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errLost
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

// thereError is what the other side failed with.
type thereError struct{ fault.Parts }

func (e *thereError) Error() string { return e.Message }

// Unwrap makes a fault of it, so that a person reads its parts.
func (e *thereError) Unwrap() error {
	if e.What == "" {
		return nil
	}
	return &fault.Error{Code: e.Code, What: e.What, Cause: e.Cause, Try: e.Try, Class: errdefs.ErrFailedPrecondition}
}

func readFailure(raw []byte) error {
	e := new(thereError)
	if json.Unmarshal(raw, &e.Parts) != nil || e.Message == "" {
		e.Message = "the other daemon gave up and did not say why"
	}
	return e
}

// parse reads a frame that is to be a message.
func parse(k kind, b []byte) (*message, error) {
	if k != kindMessage {
		return nil, unexpected(k)
	}
	m := new(message)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("read a message: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return m, nil
}
