package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Download writes a blob to w from byte number from on. A connection that breaks is taken up again where it broke, as long as
// there is progress. The caller verifies the digest: it alone has the bytes before from.
func (r *Repository) Download(ctx context.Context, d ocispec.Descriptor, from int64, w io.Writer) error {
	failed := 0
	for at := from; at < d.Size; {
		n, err := r.downloadSome(ctx, d, at, w)
		at += n
		if err == nil {
			continue
		}
		if n > 0 {
			failed = 0
		}
		if failed++; failed == attempts || ctx.Err() != nil || !again(err) || !r.client.pause(ctx, failed, err) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return r.explain(fmt.Errorf("download %s: %w", d.Digest, err))
		}
	}
	return nil
}

// Blob fetches a small blob whole and verifies it.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, at most %d are allowed: %w", d.Digest, d.Size, limit, errdefs.ErrInvalidArgument)
	}
	var b bytes.Buffer
	if err := r.Download(ctx, d, 0, &b); err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(b.Bytes()); got != d.Digest {
		return nil, fmt.Errorf("blob %s is corrupt: its bytes have the digest %s: %w", d.Digest, got, errdefs.ErrDataLoss)
	}
	return b.Bytes(), nil
}

// downloadSome copies what one connection delivers.
func (r *Repository) downloadSome(ctx context.Context, d ocispec.Descriptor, at int64, w io.Writer) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	res, err := r.openBlob(ctx, d, at)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	stall := time.AfterFunc(r.client.o.Stall, func() { cancel(errStalled) })
	defer stall.Stop()
	body := io.Reader(&watched{res.Body, stall, r.client.o.Stall})
	if res.StatusCode != http.StatusPartialContent && at > 0 {
		// The server knows no ranges: what is there already is fetched again and dropped.
		if _, err := io.CopyN(io.Discard, body, at); err != nil {
			return 0, stallCause(ctx, err)
		}
	}
	n, err := copyTo(w, io.LimitReader(body, d.Size-at))
	if err == nil && at+n < d.Size {
		err = fmt.Errorf("%d of %d bytes came: %w", at+n, d.Size, io.ErrUnexpectedEOF)
	}
	return n, stallCause(ctx, err)
}

func stallCause(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// openBlob asks for the blob from byte at on.
func (r *Repository) openBlob(ctx context.Context, d ocispec.Descriptor, at int64) (*http.Response, error) {
	q := request{method: http.MethodGet, path: r.path("blobs/" + d.Digest.String()), scopes: r.pullScope()}
	if at > 0 {
		q.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", at, d.Size-1)}}
	}
	res, err := r.read(ctx, q)
	var re *ResponseError
	if errors.As(err, &re) && re.Status == http.StatusRequestedRangeNotSatisfiable {
		q.header = nil // It knows ranges, but not this one: from the start, then.
		res, err = r.read(ctx, q)
	}
	if err != nil && errors.Is(err, errdefs.ErrNotFound) && len(d.URLs) > 0 {
		res, err = r.openForeign(ctx, d, q, err)
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusPartialContent {
		if start, ok := rangeStart(res.Header); !ok || start != at {
			res.Body.Close()
			return nil, fmt.Errorf("blob %s from byte %d: the server answered with range %q: %w",
				d.Digest, at, res.Header.Get("Content-Range"), errdefs.ErrUnavailable)
		}
	}
	return res, nil
}

// openForeign asks the addresses that a layer names itself. They get no credentials.
func (r *Repository) openForeign(ctx context.Context, d ocispec.Descriptor, q request, err error) (*http.Response, error) {
	for _, u := range d.URLs {
		if !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") {
			continue
		}
		res, foreignErr := r.origin().over(ctx, "", request{method: q.method, absolute: u, header: q.header}, "")
		if foreignErr != nil {
			err = foreignErr
			continue
		}
		if res.StatusCode/100 == 2 {
			return res, nil
		}
		err = readResponseError(res)
	}
	return nil, err
}

// rangeStart reads "bytes 5-9/10".
func rangeStart(h http.Header) (int64, bool) {
	unit, rest, _ := strings.Cut(h.Get("Content-Range"), " ")
	first, _, ok := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && unit == "bytes" && err == nil
}

// copyTo is io.Copy that tells the writer's failures from the reader's.
func copyTo(w io.Writer, body io.Reader) (int64, error) {
	var total int64
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return total, &localError{werr}
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// watched puts off the stall timer with every read that delivers.
type watched struct {
	io.Reader
	stall *time.Timer
	after time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.stall.Reset(w.after)
	}
	return n, err
}
