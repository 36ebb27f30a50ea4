package task

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxInline is the largest body that goes into a packet; larger ones go in a memfd, the packet's last descriptor.
	maxInline = 64 << 10
	// maxBody bounds a body in a memfd.
	maxBody = 64 << 20
	// maxFDs is how many descriptors a message may carry.
	maxFDs = 8

	headerSize = 8
	flagMemfd  = 1
)

// Message is one packet: a header (kind u8, flags u8, two bytes unused, number u32; little-endian), a JSON body and
// descriptors.
type Message struct {
	Kind   Kind
	Number uint32 // of the request; 0 where there is no reply
	Body   []byte // valid only until the next Receive
	FDs    []int  // owned by the receiver
}

// Decode reads the body into v.
func (m *Message) Decode(v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("decode message of kind %d: %w", m.Kind, err)
	}
	return nil
}

// CloseFDs closes the descriptors that came with the message, for receivers that have no use for them.
func (m *Message) CloseFDs() {
	for _, fd := range m.FDs {
		unix.Close(fd)
	}
	m.FDs = nil
}

// Conn is one side of the connection. Send may be called concurrently, Receive by one goroutine.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	shut atomic.Bool

	send sync.Mutex // keeps the packets of concurrent senders in whole; guards nothing else
	buf  []byte     // for Receive
	oob  []byte
}

// NewConn takes ownership of a connected SOCK_SEQPACKET socket.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("keeper connection: %w", err)
	}
	f := os.NewFile(uintptr(fd), "keeper")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("keeper connection: %w", err)
	}
	return &Conn{file: f, raw: raw, buf: make([]byte, headerSize+maxInline+1), oob: make([]byte, unix.CmsgSpace(4*maxFDs))}, nil
}

// Dial connects to the socket at path.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to keeper: %w", err)
	}
	addr, release, err := socketAddress(path)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to keeper: %w", err)
	}
	defer release()
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to keeper: %w", err)
	}
	return NewConn(fd)
}

// socketAddress is the address of the socket at path, also when path is longer than an address may be (108 bytes): then
// it leads through a descriptor of its directory, which lives until release.
func socketAddress(path string) (addr *unix.SockaddrUnix, release func(), err error) {
	if len(path) < 100 {
		return &unix.SockaddrUnix{Name: path}, func() {}, nil
	}
	i := len(path) - 1
	for i > 0 && path[i] != '/' {
		i--
	}
	dir, err := unix.Open(path[:i+1], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, path[i+1:])}, func() { unix.Close(dir) }, nil
}

// Close ends the connection; a Receive under way returns os.ErrClosed.
func (c *Conn) Close() error {
	c.shut.Store(true)
	return c.file.Close()
}

// failed is an error of the raw connection, whose own for a closed file has no exported name.
func (c *Conn) failed(err error) error {
	if err != nil && c.shut.Load() {
		return os.ErrClosed
	}
	return err
}

// Send sends a message; body is marshalled unless it is nil or a json.RawMessage. The descriptors stay the caller's. It
// waits while the other side does not read.
func (c *Conn) Send(kind Kind, number uint32, body any, fds ...int) error {
	var b []byte
	switch v := body.(type) {
	case nil:
	case json.RawMessage:
		b = v
	default:
		var err error
		if b, err = json.Marshal(v); err != nil {
			return fmt.Errorf("encode message of kind %d: %w", kind, err)
		}
	}
	var flags byte
	if len(b) > maxInline {
		fd, err := memfd(b)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds, b, flags = append(append([]int(nil), fds...), fd), nil, flagMemfd
	}
	if len(fds) > maxFDs {
		return fmt.Errorf("send message of kind %d: %d descriptors", kind, len(fds))
	}
	packet := make([]byte, headerSize, headerSize+len(b))
	packet[0], packet[1] = byte(kind), flags
	binary.LittleEndian.PutUint32(packet[4:], number)
	packet = append(packet, b...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return c.write(packet, oob)
}

func (c *Conn) write(packet, oob []byte) error {
	c.send.Lock()
	defer c.send.Unlock()
	var err error
	werr := c.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendmsg(int(fd), packet, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(c.failed(werr), err); err != nil {
		return fmt.Errorf("send to keeper connection: %w", err)
	}
	return nil
}

// Receive waits for the next message. io.EOF says that the other side is gone.
func (c *Conn) Receive() (*Message, error) {
	var n, oobn, flags int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), c.buf, c.oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	switch {
	case rerr != nil:
		return nil, fmt.Errorf("receive from keeper connection: %w", c.failed(rerr))
	case errors.Is(err, unix.ECONNRESET):
		return nil, io.EOF
	case err != nil:
		return nil, fmt.Errorf("receive from keeper connection: %w", err)
	case n == 0:
		return nil, io.EOF
	}
	m := &Message{}
	if oobn > 0 {
		if m.FDs, err = rights(c.oob[:oobn]); err != nil {
			return nil, err
		}
	}
	if n < headerSize || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		m.CloseFDs()
		return nil, fmt.Errorf("receive from keeper connection: packet of %d bytes, flags %#x", n, flags)
	}
	m.Kind, m.Number, m.Body = Kind(c.buf[0]), binary.LittleEndian.Uint32(c.buf[4:]), c.buf[headerSize:n]
	if c.buf[1]&flagMemfd != 0 {
		if err := m.unfold(); err != nil {
			m.CloseFDs()
			return nil, err
		}
	}
	return m, nil
}

func rights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("receive from keeper connection: %w", err)
	}
	var fds []int
	for i := range msgs {
		if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds, nil
}

// unfold reads a body out of the memfd it came in.
func (m *Message) unfold() error {
	if len(m.FDs) == 0 {
		return errors.New("receive from keeper connection: body is missing")
	}
	last := len(m.FDs) - 1
	fd := m.FDs[last]
	m.FDs = m.FDs[:last]
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size > maxBody {
		return fmt.Errorf("receive from keeper connection: body of %d bytes: %w", st.Size, errors.Join(err, unix.EMSGSIZE))
	}
	m.Body = make([]byte, st.Size)
	for off := 0; off < len(m.Body); {
		n, err := unix.Pread(fd, m.Body[off:], int64(off))
		if err != nil || n == 0 {
			return fmt.Errorf("receive from keeper connection: read body: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		off += n
	}
	return nil
}

func memfd(b []byte) (int, error) {
	fd, err := unix.MemfdCreate("kist-message", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd: %w", err)
	}
	for off := 0; off < len(b); {
		n, err := unix.Pwrite(fd, b[off:], int64(off))
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("write memfd: %w", err)
		}
		off += n
	}
	return fd, nil
}

// SetDeadline bounds Send and Receive; the zero time lifts it.
func (c *Conn) SetDeadline(t time.Time) { _ = c.file.SetDeadline(t) } // a socket always takes one
