package archive

import (
	"context"
	"errors"
	"io"

	"github.com/kistdev/kist/internal/sys"
)

// Copy copies what is in the directory from of one root into the directory to of another, which must exist, with owners,
// times and extended attributes: how a new volume gets what the image has in its place.
func Copy(ctx context.Context, src *sys.Root, from string, dst *sys.Root, to string) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := Tar(ctx, src, from+"/.", w, TarOptions{NoRoot: true})
		packed <- err
		w.CloseWithError(err)
	}()
	_, err := Untar(ctx, dst, to, r, UntarOptions{})
	if err == nil {
		_, err = io.Copy(io.Discard, r) // the padding after the end marker
	}
	r.CloseWithError(errStopped)
	if perr := <-packed; perr != nil && !errors.Is(perr, errStopped) {
		return perr
	}
	return err
}

var errStopped = errors.New("the reader stopped")
