package cgroup

import (
	"context"
	"errors"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// madeMark is the extended attribute of the groups above a container's that were made for it. Others are somebody's own, and stay
// when they are empty: they may hold limits.
const madeMark = "trusted.kist.made"

// markMade marks a group as made for what comes below it. Kernels that cannot do it keep such groups.
func (d *hierarchy) markMade(rel string) {
	_ = unix.Setxattr(path.Join(d.path, rel), madeMark, []byte{'1'}, 0)
}

func (d *hierarchy) isMade(rel string) bool {
	var mark [1]byte
	n, err := unix.Getxattr(path.Join(d.path, rel), madeMark, mark[:])
	return err == nil && n == 1
}

// PruneParents removes the empty groups above the group at name that were made for it, once that one is gone, which it waits
// for. systemd's units need no such thing: systemd does it.
func PruneParents(ctx context.Context, name string) error {
	h, err := system()
	if err != nil {
		return err
	}
	return h.pruneParents(ctx, name)
}

func (h *hierarchies) pruneParents(ctx context.Context, name string) error {
	g, err := h.group(name)
	if err != nil || g.unit != nil {
		return err
	}
	for _, d := range h.all() {
		for d.has(g.rel) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
		for rel := path.Dir(g.rel); rel != "." && d.isMade(rel); rel = path.Dir(rel) {
			err := d.rmdir(rel)
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) { // others live there
				break
			}
			if err != nil && !absent(err) {
				return err
			}
		}
	}
	return nil
}
