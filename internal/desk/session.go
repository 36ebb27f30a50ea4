package desk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/front"
)

// askTime is how long a client may take to say what it wants; it does so at once.
const askTime = 10 * time.Second

// session is one client.
type session struct {
	*Server
	conn     *net.UnixConn
	stream   *os.File // the client's end of the output; nil once it was given away
	version  string
	coloured bool
	args     []string // from "run" or "exec" on
}

// serve reads what the client wants and does it.
func (s *Server) serve(conn *net.UnixConn) error {
	x := &session{Server: s, conn: conn}
	if err := conn.SetReadDeadline(time.Now().Add(askTime)); err != nil {
		return err
	}
	if err := x.read(); err != nil {
		return err
	}
	defer func() { _ = x.closeStream() }()
	s.awake()
	if x.version != front.Version {
		return x.send(front.Decline, "")
	}
	switch x.args[0] {
	case "run":
		return x.run()
	case "exec":
		return x.exec()
	}
	return x.send(front.Decline, "")
}

var errRequest = errors.New("malformed request")

// read reads the request.
func (x *session) read() error {
	packet, oob := make([]byte, front.MaxPacket+1), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := x.conn.ReadMsgUnix(packet, oob)
	if err != nil {
		return fmt.Errorf("read the command: %w", err)
	}
	fds, err := descriptors(oob[:oobn])
	if err != nil {
		return err
	}
	if len(fds) != 1 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return errRequest
	}
	x.stream = os.NewFile(uintptr(fds[0]), "stream")
	fields := strings.Split(string(packet[:n]), "\x00")
	if len(fields) < 4 || fields[len(fields)-1] != "" {
		return errors.Join(errRequest, x.closeStream())
	}
	x.version, x.coloured, x.args = fields[0], fields[1] == front.Coloured, fields[2:len(fields)-1]
	return nil
}

func descriptors(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read the command's descriptors: %w", err)
	}
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	return fds, nil
}

func (x *session) closeStream() error {
	if x.stream == nil {
		return nil
	}
	f := x.stream
	x.stream = nil
	return f.Close()
}

// send sends a packet. A text that is too long for one is cut.
func (x *session) send(kind byte, text string) error {
	text = text[:min(len(text), front.MaxPacket-1)]
	_, err := x.conn.Write(append([]byte{kind}, text...))
	return err
}

func (x *session) note(verb, path string) {
	if x.Noted != nil {
		x.Noted(x.conn, verb, path)
	}
}

func (x *session) end(kind byte, code int, text string) error {
	return x.send(kind, strconv.Itoa(code)+"\n"+text)
}

// watch returns a context that ends when the client goes. Until then its signals are passed to heed. release must be called.
func (x *session) watch(heed func(signal string)) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		var packet [16]byte
		for {
			n, err := x.conn.Read(packet[:])
			if err != nil || n == 0 {
				return
			}
			if packet[0] == front.SignalTo {
				heed(string(packet[1:n]))
			}
		}
	}()
	return ctx, func() {
		_ = x.conn.Close()
		<-done
	}
}
