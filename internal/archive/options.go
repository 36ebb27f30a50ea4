package archive

import (
	"fmt"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/sys"
)

// Owner is a user and group by number.
type Owner struct{ UID, GID int }

// UntarOptions for Untar. The zero value unpacks a tar as it is.
type UntarOptions struct {
	// Layer unpacks an image's layer into a directory of its own: whiteouts become overlayfs's, attributes of overlayfs
	// that the tar brings along are dropped, and the tar's entry for its root sets the directory's own attributes.
	Layer bool
	// Root has the tar's entry for its root set the directory's own attributes, as it does for a layer.
	Root bool
	// NoOverlay drops attributes of overlayfs that the tar brings along, as Layer does: for directories that overlays are
	// made of.
	NoOverlay bool
	// UserXattr writes overlayfs's attributes as user.overlay.*, for mounts in a user namespace.
	UserXattr bool
	// NoOverwriteDirNonDir refuses to replace a directory by something else, and the other way round.
	NoOverwriteDirNonDir bool
	// Owner, when set, owns all that is unpacked, whatever the tar says.
	Owner *Owner
	// MapOwner, when set, turns the tar's owners into the host's: for containers in a user namespace.
	MapOwner func(Owner) (Owner, error)
}

// Stats is what Untar did.
type Stats struct {
	// Entries counts what was unpacked, the entry for the root and what was skipped left out.
	Entries int
	// Root says that the tar had an entry for its root.
	Root bool
	// Opaque says that the root itself is opaque: nothing below this layer shows.
	Opaque bool
}

// TarOptions for Tar. The zero value archives a tree as it is.
type TarOptions struct {
	// Name is what the archived file or directory is called in the archive; empty means that a directory's entries have
	// names relative to it ("./"), and that a file keeps its name.
	Name string
	// NoRoot leaves out the entry for the archived directory itself.
	NoRoot bool
	// Upper archives an overlay's upper directory: its whiteouts become OCI whiteouts. Hidden, when set, says whether
	// there is something below that a whiteout or an opaque directory with this path hides; without, all of them count.
	Upper  bool
	Hidden func(path string, opaque bool) bool
	// OneFilesystem leaves out what is mounted below, but for the empty mount points, which may be files.
	OneFilesystem bool
	// UserXattr: as in UntarOptions.
	UserXattr bool
	// Still promises that nobody writes to the tree: each file is then opened with less suspicion, and faster.
	Still bool
	// Open leaves out the end marker: more entries follow.
	Open bool
	// Latest, when set, is the latest time that a file may have: later ones become it.
	Latest *time.Time
	// MapOwner, when set, turns the host's owners into those of the archive.
	MapOwner func(Owner) (Owner, error)
	// Under, when set, is a tree under the archived one: what that lacks is taken from there, and a directory that both have
	// is archived once, with the attributes of the upper one. The top is archived, not a part of it.
	Under *sys.Root
	// Mark, when set, is called before the entry with the name is written, but not before each: when MarkEvery bytes or more
	// have come since the last call. All that belongs to the entries before it has been written then.
	Mark      func(name string) error
	MarkEvery int64
	// From, when set, leaves out what comes before the entry of this name: what is written is the end of the whole tar, which
	// begins with that entry. It is right only as long as no file before it has several names. It wants NoRoot. A name that
	// is not there is an errdefs.ErrNotFound.
	From string
}

// whiteout names of the OCI image specification.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// overlayPrefix is where overlayfs keeps its own attributes.
func overlayPrefix(user bool) string {
	if user {
		return "user.overlay."
	}
	return "trusted.overlay."
}

// pathError tells which entry of an archive failed.
type pathError struct {
	op, path string
	err      error
}

func (e *pathError) Error() string { return fmt.Sprintf("%s %q: %v", e.op, e.path, e.err) }
func (e *pathError) Unwrap() error { return e.err }

// splitName parts a cleaned name into its directory ("" for the root) and its last component.
func splitName(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}
