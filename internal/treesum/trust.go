package treesum

import (
	"golang.org/x/sys/unix"
)

// A file is remembered by its times, so these must change whenever its content does. Where that is not sure, the file is read
// again each time:
//
//   - A change within one tick of the file system's clock as the one before leaves the times as they are. The times must
//     therefore be before the moment at which the scan began, by that very clock, which runs behind the precise one.
//   - A write(2) sets the times when it begins, not when the data is there; a store into a mapped file sets them when a page
//     becomes dirty, and not again before it has been written back. So nobody may have the file open for writing, nor mapped.
//   - Stores into a mapped file of a file system in memory set no times at all once the page was read.
//   - The times of an image (squashfs, EROFS, ISO 9660) are what its maker wrote; those of FAT are what utimes(2) says.
//   - The clock of another machine's file system is not ours, nor does the kernel know who has its files open.
type trust uint8

const (
	untold trust = iota // contents may change without a sign
	aged                // changes show in the times, but for writers that we do not see and clocks that are not ours
	told                // every change shows in the times
)

// class is what a kind of file system promises.
type class uint8

const (
	foreign class = iota // an image, FAT, or nothing is known
	disk                 // its times are the kernel's, and tell everything
	memory               // but for stores into mapped files
	distant              // its times are another machine's
)

// classes of the file systems by the number that statfs(2) tells. Those that are not here are foreign.
var classes = map[int64]class{
	unix.EXT4_SUPER_MAGIC:      disk, // and ext2, ext3
	unix.XFS_SUPER_MAGIC:       disk,
	unix.BTRFS_SUPER_MAGIC:     disk,
	unix.F2FS_SUPER_MAGIC:      disk,
	unix.OVERLAYFS_SUPER_MAGIC: disk,
	unix.REISERFS_SUPER_MAGIC:  disk,
	0x3153464a:                 disk, // JFS
	0xca451a4e:                 disk, // bcachefs
	0x2fc12fc1:                 disk, // ZFS
	unix.TMPFS_MAGIC:           memory,
	unix.RAMFS_MAGIC:           memory,
	unix.NFS_SUPER_MAGIC:       distant,
	unix.SMB_SUPER_MAGIC:       distant,
	unix.SMB2_SUPER_MAGIC:      distant,
	unix.CIFS_SUPER_MAGIC:      distant,
	unix.V9FS_MAGIC:            distant,
	unix.FUSE_SUPER_MAGIC:      distant, // and virtiofs
	unix.CEPH_SUPER_MAGIC:      distant,
}

// trustOf says how far an open regular file's times are to be trusted. What is asked for afterwards, of times and of content, is
// what the answer holds for.
func (c class) trustOf(fd int) trust {
	switch c {
	case disk:
		return leased(fd)
	case distant:
		return aged
	}
	return untold
}

// bare is trustOf for what has no content to be mapped: directories, links, devices.
func (c class) bare() trust {
	switch c {
	case disk, memory:
		return told
	case distant:
		return aged
	}
	return untold
}

// leased finds out whether nobody has a file open for writing, which is when the kernel gives a lease for reading; it is given back
// at once, so that who opens the file meanwhile waits for microseconds.
func leased(fd int) trust {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch err {
	case nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) // At the latest closing the file gives it back.
		return told
	case unix.EAGAIN:
		return untold
	}
	return aged // there are no leases here, or not for us
}

// How near to the present a file's times may be. Clocks of file systems tick in steps of a few milliseconds, some in seconds:
// within a tick, a further change would not show. agedWait is longer than what was written stays in memory before it goes to
// the disk, which is when further stores into mapped files set times again, and than clocks in one network differ.
const (
	tick       = 50_000_000
	coarseTick = 2_100_000_000
	agedWait   = 60_000_000_000
)

// coarseNow is the clock of which the kernel takes the times of files: that of the last tick.
func coarseNow() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return 0 // nothing is older
	}
	return ts.Nano()
}

// sure says whether whatever changes the node from the time on at which the tree was begun shows in its times.
func (n *Node) sure(began int64) bool {
	wait := int64(tick)
	switch whole := n.Ctime%1_000_000_000 == 0; {
	case n.trust == untold, n.trust == aged && whole: // Seconds are of a server that tells no time of change, as sftp's.
		return false
	case n.trust == aged:
		wait = agedWait
	case whole:
		wait = coarseTick
	}
	return max(n.Mtime, n.Ctime) <= began-wait
}

// Settled says whether a change of the file after the tree was looked at shows in its times.
func (n *Node) Settled() bool { return n.settled }
