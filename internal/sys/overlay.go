package sys

// Overlay describes an overlay root filesystem (Linux Documentation/filesystems/overlayfs.rst) that is not mounted yet:
// whoever uses it mounts it where it is needed, usually inside the container's own mount namespace, so that the host
// never sees it and nothing is left to unmount.
type Overlay struct {
	// Lower are absolute directories, the topmost layer first. At least one.
	Lower []string `json:"lower"`
	// Upper and Work are the writable layer's directories; both empty means a read-only mount.
	Upper string `json:"upper,omitempty"`
	Work  string `json:"work,omitempty"`
	// Volatile skips syncing of the upper layer (since Linux 5.10): only for containers that are removed when they exit.
	Volatile bool `json:"volatile,omitempty"`
	// UserXattr stores overlay's own attributes as user.overlay.*: for mounts inside a user namespace.
	UserXattr bool `json:"userxattr,omitempty"`
}
