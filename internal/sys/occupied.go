package sys

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
)

// Occupied is how many bytes of the disk a tree occupies: blocks, not lengths, and a file of several names once. What comes or
// goes meanwhile is counted or not.
func Occupied(ctx context.Context, tree fs.FS) (int64, error) {
	type file struct{ dev, ino uint64 }
	const blockSize = 512
	counted := map[file]bool{}
	var total int64
	err := fs.WalkDir(tree, ".", func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return vanished(err)
		}
		info, err := d.Info()
		if err != nil {
			return vanished(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			f := file{st.Dev, st.Ino}
			if counted[f] {
				return nil
			}
			counted[f] = true
		}
		total += st.Blocks * blockSize
		return nil
	})
	return total, err
}

// vanished forgives what went between being listed and being looked at, or became something else.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	return err
}
