package bootstrap

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/url"
	"os"

	"github.com/kistdev/kist/internal/debian"
)

// file gets a file whose size and hash are known: what is returned has both. got is told how many bytes have come, and less
// than nothing when some have to come again.
func (f *fetcher) file(ctx context.Context, u *url.URL, want debian.File, got func(n int64)) (*os.File, error) {
	tmp, err := f.temp()
	if err != nil {
		return nil, err
	}
	d := &download{f: f, u: u, want: want, got: got, tmp: tmp}
	d.restart()
	if err := f.repeat(ctx, u, func() error { return d.attempt(ctx) }); err != nil {
		_ = tmp.Close()
		return nil, err
	}
	return tmp, nil
}

// errDamaged is a file that is not what its hash says: a mirror that is being changed, or worse.
var errDamaged = errors.New("what came is not what the signed lists tell")

// download is one file on its way.
type download struct {
	f    *fetcher
	u    *url.URL
	want debian.File
	got  func(int64)
	tmp  *os.File
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
	at int64
}

// restart throws away what came.
func (d *download) restart() {
	if d.at > 0 {
		d.got(-d.at)
	}
	d.sum, d.at = sha256.New(), 0
}

// attempt goes on where the last one broke.
func (d *download) attempt(ctx context.Context) error {
	r, err := d.f.open(ctx, d.u, d.at)
	if err != nil {
		return err
	}
	defer r.Close()
	if d.at > 0 && !r.partial {
		d.restart()
	}
	buf := make([]byte, 128<<10)
	for d.at <= d.want.Size {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := d.tmp.WriteAt(buf[:n], d.at); werr != nil {
				return werr
			}
			_, _ = d.sum.Write(buf[:n]) // it never fails
			d.at += int64(n)
			d.got(int64(n))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if d.at < d.want.Size {
		return io.ErrUnexpectedEOF
	}
	if [32]byte(d.sum.Sum(nil)) != d.want.SHA256 || d.at != d.want.Size {
		d.restart()
		return errDamaged
	}
	return nil
}
