package treesum

import (
	"golang.org/x/sys/unix"
)

// Node is one file of a tree. What is exported does not change once the node can be seen.
type Node struct {
	Name  string
	Mode  uint32 // as stat(2) tells it, with the kind
	UID   uint32
	GID   uint32
	Nlink uint32
	Rdev  uint64
	Size  int64
	Mtime int64 // nanoseconds since 1970
	Ctime int64
	Dev   uint64
	Ino   uint64

	parent *Node
	kids   []*Node // of a directory that was read, sorted
	read   bool
	whole  bool // everything below was read
	pruned bool // and what passes the filter is known of all of it
	maybe  bool // passes the filter only if something below it does
	gone   bool // vanished between listing and reading
	summed bool
	// settled says that whatever changes the file from now on shows in its times; trust is how far these tell.
	settled bool
	trust   trust
	target  string // of a link, once it was read
	sum     sum    // of what the file holds: content, target, attributes
	inc     bits   // which patterns of the filter matched it or a directory above
	exc     bits
}

// IsDir says whether the node is a directory.
func (n *Node) IsDir() bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular says whether the node is a regular file.
func (n *Node) IsRegular() bool { return n.Mode&unix.S_IFMT == unix.S_IFREG }

// IsLink says whether the node is a symbolic link.
func (n *Node) IsLink() bool { return n.Mode&unix.S_IFMT == unix.S_IFLNK }

// Gone says whether the file had vanished when it was to be read.
func (n *Node) Gone() bool { return n.gone }

// Path is the node's path from the root of the tree, without a leading slash; the root's is empty.
func (n *Node) Path() string {
	if n.parent == nil {
		return ""
	}
	if n.parent.parent == nil {
		return n.Name
	}
	return n.parent.Path() + "/" + n.Name
}

// kid finds a child by name.
func (n *Node) kid(name string) *Node {
	lo, hi := 0, len(n.kids)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); n.kids[mid].Name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(n.kids) && n.kids[lo].Name == name {
		return n.kids[lo]
	}
	return nil
}

// fill takes over what statx told.
func (n *Node) fill(st *unix.Statx_t) {
	n.Mode, n.UID, n.GID, n.Nlink = uint32(st.Mode), st.Uid, st.Gid, st.Nlink
	n.Rdev, n.Size = unix.Mkdev(st.Rdev_major, st.Rdev_minor), int64(st.Size)
	n.Mtime, n.Ctime = nanoseconds(st.Mtime), nanoseconds(st.Ctime)
	n.Dev, n.Ino = unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }
