package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// child is a process between its clone and its execve.
type child struct {
	im      *image
	c       *compiler
	run     executor
	line    int // the parent's end of the socket between the two
	far     int // the child's end
	owned   []int
	keep    []int // descriptors of the parent's that live as long as the container
	root    int   // the root filesystem's mount, when the parent made it, until the child is parked
	parked  bool
	pid     int
	pidfd   *os.File
	console *os.File
	done    chan struct{} // the executor has returned
	runPID  int
	runErr  error
	once    sync.Once
}

// execute is the goroutine, and with the fast executor the thread, that makes the process.
func (ch *child) execute() {
	defer close(ch.done)
	if ch.c.pidNS == 0 {
		ch.runPID, ch.runErr = ch.run(ch.im, ch.c.fds)
	} else {
		ch.runPID, ch.runErr = ch.inPIDNamespace()
	}
	// Who reads the parent's end of the line now learns that nobody writes any more.
	unix.Close(ch.far)
}

// inPIDNamespace makes the process as a member of another pid namespace: that is decided for a thread's children.
func (ch *child) inPIDNamespace() (int, error) {
	goruntime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		goruntime.UnlockOSThread()
		return 0, fmt.Errorf("open pid namespace: %w", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(ch.im.fd(ch.c.pidNS), unix.CLONE_NEWPID); err != nil {
		goruntime.UnlockOSThread()
		return 0, fmt.Errorf("join pid namespace: %w", err)
	}
	pid, err := ch.run(ch.im, ch.c.fds)
	if back := unix.Setns(own, unix.CLONE_NEWPID); back != nil {
		// The thread is spoilt: without an unlock it ends with the goroutine.
		return pid, errors.Join(err, fmt.Errorf("leave pid namespace: %w", back))
	}
	goruntime.UnlockOSThread()
	return pid, err
}

var errEnded = errors.New("the process has ended")

// receive reads the next message of the child. At the line's end the error is errEnded.
func (ch *child) receive() (kind assistKind, index int, err error) {
	var data [8]byte
	control := make([]byte, unix.CmsgSpace(4))
	for {
		n, cn, _, _, err := unix.Recvmsg(ch.line, data[:], control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != len(data) {
			return 0, 0, errEnded
		}
		m := binary.LittleEndian.Uint64(data[:])
		kind, index = assistKind(uint32(m)), int(m>>32)
		if cn > 0 {
			if err := ch.takeConsole(control[:cn]); err != nil {
				return 0, 0, err
			}
		}
		return kind, index, nil
	}
}

func (ch *child) takeConsole(control []byte) error {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return fmt.Errorf("receive terminal: %w", err)
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return fmt.Errorf("receive terminal: %w", err)
		}
		for _, fd := range fds {
			// Non-blocking, so that Go's poller reads it and no thread.
			_ = unix.SetNonblock(fd, true)
			ch.console = os.NewFile(uintptr(fd), "/dev/ptmx")
		}
	}
	return nil
}

// serve answers the child's requests until it is ready or has ended.
func (ch *child) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, ch.hangUp)
	defer stop()
	for {
		kind, index, err := ch.receive()
		if err != nil {
			return err
		}
		if err := ch.identify(); err != nil {
			return err
		}
		switch kind {
		case assistReady:
			return nil
		case assistConsole:
			continue
		}
		if index >= len(ch.c.assists) {
			return fmt.Errorf("unknown request %d of the set-up", index)
		}
		if err := ch.help(&ch.c.assists[index]); err != nil {
			return err
		}
		if err := ch.reply(); err != nil {
			return err
		}
	}
}

// identify learns the process's pid and pidfd, which the kernel wrote before the child ran.
func (ch *child) identify() error {
	if ch.pidfd != nil {
		return nil
	}
	le := binary.LittleEndian
	if ch.c.plain {
		<-ch.done
	}
	ch.pid = int(le.Uint32(ch.im.mem[headTID:]))
	if ch.pid == 0 {
		<-ch.done
		ch.pid = int(le.Uint32(ch.im.mem[headTID:]))
	}
	if ch.pid == 0 {
		return errEnded
	}
	ch.pidfd = os.NewFile(uintptr(le.Uint32(ch.im.mem[headPIDFD:])), "pidfd")
	return nil
}

func (ch *child) reply() error {
	if err := unix.Sendto(ch.line, make([]byte, 8), unix.MSG_NOSIGNAL, nil); err != nil {
		return errEnded
	}
	return nil
}

// setUp waits until the child is parked.
func (ch *child) setUp(ctx context.Context) error {
	err := ch.serve(ctx)
	if err != nil {
		// It must not be made any more from descriptors that are closed, and then are another file's.
		ch.hangUp()
		<-ch.done
	}
	ch.closeOwned()
	ch.root, ch.parked = -1, true
	if err == nil && ctx.Err() != nil {
		err = errEnded
		ch.hangUp()
	}
	if err != nil {
		return ch.why(ctx, err)
	}
	ch.holdMounts()
	return nil
}

// holdMounts keeps the container's mount namespace: what is left of it is taken apart when the descriptor is closed, not
// while everybody waits for the exit of its last process.
func (ch *child) holdMounts() {
	if fd, err := unix.Open("/proc/"+strconv.Itoa(ch.pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		ch.keep = append(ch.keep, fd)
	}
}

// start lets the child go and waits for its execve.
func (ch *child) start(ctx context.Context) error {
	if err := ch.reply(); err != nil {
		return ch.why(ctx, err)
	}
	return ch.goOn(ctx)
}

// goOn waits until the child has reached its execve.
func (ch *child) goOn(ctx context.Context) error {
	err := ch.serve(ctx)
	if err == nil {
		err = errors.New("the process was ready twice")
	}
	return ch.why(ctx, err)
}

// why turns the end of the line into its reason: nil if that was a successful execve.
func (ch *child) why(ctx context.Context, err error) error {
	if !errors.Is(err, errEnded) {
		return err
	}
	<-ch.done
	if ch.runErr != nil {
		return fmt.Errorf("make process: %w", ch.runErr)
	}
	if err := ch.identify(); err != nil {
		return fmt.Errorf("make process: %w", err)
	}
	err = ch.im.failure(&ch.c.child)
	switch {
	case err == nil && ch.im.word(ch.c.reached) == 1:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("set up process: %w", context.Cause(ctx))
	case err == nil:
		return errors.New("the process was killed while it was set up")
	}
	return err
}

// hangUp makes the child's next request to its parent fail, which ends it.
func (ch *child) hangUp() { _ = unix.Shutdown(ch.line, unix.SHUT_RDWR) }

// kill ends and reaps a child whose set-up failed.
func (ch *child) kill(context.Context) error {
	ch.hangUp()
	if ch.identify() == nil {
		_ = unix.PidfdSendSignal(fdOf(ch.pidfd), unix.SIGKILL, nil, 0)
		<-ch.done
		for {
			err := unix.Waitid(unix.P_PIDFD, fdOf(ch.pidfd), nil, unix.WEXITED, nil)
			if err != unix.EINTR {
				break
			}
		}
		ch.pidfd.Close()
	}
	<-ch.done
	if ch.console != nil {
		ch.console.Close()
	}
	for _, fd := range ch.keep {
		unix.Close(fd)
	}
	ch.close()
	return nil
}

func (ch *child) takeHold() []int {
	k := ch.keep
	ch.keep = nil
	return k
}

func (ch *child) closeOwned() {
	for _, fd := range ch.owned {
		unix.Close(fd)
	}
	ch.owned = nil
}

// close gives back the line and, when the child does not use it any more, the memory.
func (ch *child) close() {
	ch.once.Do(func() {
		ch.hangUp()
		<-ch.done
		unix.Close(ch.line)
		ch.closeOwned()
		ch.im.free()
	})
}
