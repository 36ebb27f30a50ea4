package buildmsg

import "time"

// CacheMount is a cache mount's directory, as GET /kist/build/mounts lists it.
type CacheMount struct {
	// Key is its name in the store, ID the one that Dockerfiles use.
	Key, ID string
	Size    int64
	Created time.Time
	Used    time.Time
	InUse   bool
}
