package content

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// explain makes an error of a full disk a fault that says which disk, and how full. Others stay as they are.
func (s *Store) explain(err error) error { return ExplainFull(s.dir, err) }

// ExplainFull makes an error of a full disk a fault that says which file system dir is on and how much of it is free.
// Other errors, and faults, are returned as they are.
func ExplainFull(dir string, err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	if _, ok := fault.As(err); ok {
		return err
	}
	cause := "the file system of " + dir + " is full"
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		cause = fmt.Sprintf("the file system of %s has %s free of %s, and %d inodes", dir,
			units.HumanSize(float64(st.Bavail)*float64(st.Bsize)), units.HumanSize(float64(st.Blocks)*float64(st.Bsize)), st.Ffree)
	}
	return &fault.Error{
		Code: "disk-full", What: "no space left on device", Cause: cause,
		Try: "kist image prune, kist system df", Class: errdefs.ErrResourceExhausted, Err: err,
	}
}
