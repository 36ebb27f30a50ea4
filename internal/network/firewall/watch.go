package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long the watcher waits after a foreign change, so that a firewall that is reloaded rule by rule costs
// one look. It is well below the second in which published ports must be back.
const settle = 100 * time.Millisecond

// Watcher notices that somebody else deleted from our table (nft flush ruleset) and puts it back.
type Watcher struct {
	f      *Firewall
	socket *os.File
	done   chan struct{}
}

// Watch opens the socket in the network namespace of the calling thread.
func Watch(f *Firewall) (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("watch firewall: %w", err)
	}
	w := &Watcher{f: f, socket: os.NewFile(uintptr(fd), "nftables notices"), done: make(chan struct{})}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		w.socket.Close()
		return nil, fmt.Errorf("watch firewall: %w", err)
	}
	go w.run()
	return w, nil
}

// Close ends the watcher and waits for it.
func (w *Watcher) Close() {
	w.socket.Close()
	<-w.done
}

func (w *Watcher) run() {
	defer close(w.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := w.socket.Read(buf)
		switch {
		case errors.Is(err, fs.ErrClosed):
			return
		case errors.Is(err, unix.ENOBUFS):
			// Notices were lost. If there was a flush among them, the table is gone.
			if ok, err := w.f.Exists(); err == nil && ok {
				continue
			}
		case err != nil:
			slog.Warn("the firewall is no longer watched", "error", err)
			return
		case !w.f.damaged(buf[:n]):
			continue
		}
		if !w.mend() {
			return
		}
	}
}

// mend waits for more of the same, then renews the table. It returns false when the watcher was closed meanwhile.
func (w *Watcher) mend() bool {
	deadline := time.Now().Add(settle)
	var scratch [32 << 10]byte
	for {
		if err := w.socket.SetReadDeadline(deadline); err != nil {
			return false
		}
		if _, err := w.socket.Read(scratch[:]); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if errors.Is(err, fs.ErrClosed) {
			return false
		}
	}
	if err := w.f.Renew(); err != nil {
		slog.Warn("somebody changed the firewall table, and it could not be restored", "error", err)
	} else {
		slog.Info("somebody changed the firewall table: restored", "table", w.f.name())
	}
	return w.socket.SetReadDeadline(time.Time{}) == nil
}

func (f *Firewall) name() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.Name
}

// damaged says whether one of the notices is of a deletion in our table that we did not order.
func (f *Firewall) damaged(notices []byte) bool {
	f.mu.Lock()
	name, own := f.table.Name, f.portID
	f.mu.Unlock()
	for b := notices; len(b) >= unix.NLMSG_HDRLEN; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false
		}
		kind, sender := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[12:])
		if sender != own && deletes(kind) && noticeTable(b[unix.NLMSG_HDRLEN:size]) == name {
			return true
		}
		b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
	}
	return false
}

func deletes(kind uint16) bool {
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false
	}
	switch kind & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
		return true
	}
	return false
}

// noticeTable finds the table's name, which is attribute 1 of every kind of notice.
func noticeTable(b []byte) string {
	const familyHeader = 4
	if len(b) < familyHeader || b[0] != unix.NFPROTO_INET {
		return ""
	}
	for b = b[familyHeader:]; len(b) >= 4; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return ""
		}
		const typeMask = 1<<14 - 1
		if kind&typeMask == unix.NFTA_TABLE_NAME {
			return unix.ByteSliceToString(b[4:size])
		}
		b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
	}
	return ""
}
