package move

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/undo"
)

// receiving is the receiver's side of a conversation.
type receiving struct {
	*Mover
	wire   *wire
	dir    string // for what is needed for a while
	pack   *pack
	stock  *stock
	hold   *layer.Hold
	looked bool
	prefer []digest.Digest        // layers that are likely to have pieces of what comes
	skip   map[digest.Digest]bool // those that are not
	volume string                 // a volume that is likely to
	room   []byte
	opened []byte
	undo   undo.Stack
	placed []string // volumes
	// awaited says that a container is to come, without which nothing is complete.
	awaited bool
}

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// drainWithin bounds how long a sender is heard that was told to stop.
const drainWithin = 20 * time.Second

// Receive takes in what the daemon at the other end of the connection sends. It closes nothing.
func (m *Mover) Receive(ctx context.Context, conn io.ReadWriter) error {
	r, err := m.receiver(conn)
	if err != nil {
		return err
	}
	err = r.converse(ctx)
	success := err == nil
	if uerr := r.undo.Unwind(ctx); uerr != nil {
		err = errors.Join(err, uerr)
	}
	if err != nil && !errors.Is(err, errLost) && !isThere(err) {
		if r.wire.fail(err) == nil {
			r.drain(conn)
		}
	}
	return errors.Join(err, r.close(success))
}

// drain reads what is under way, so that the sender is not held up before it has read why it should stop.
func (r *receiving) drain(conn io.ReadWriter) {
	if d, ok := conn.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(time.Now().Add(drainWithin)) // Without one it ends with the connection.
	}
	_, _ = io.Copy(io.Discard, r.wire.r)
}

func (m *Mover) receiver(conn io.ReadWriter) (*receiving, error) {
	for _, dir := range []string{m.packs(), m.listings()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	w, err := newWire(conn, false)
	if err != nil {
		return nil, err
	}
	return &receiving{Mover: m, wire: w, dir: m.listings(), stock: newStock(), hold: m.Layers.Hold(), skip: map[digest.Digest]bool{}}, nil
}

func (r *receiving) close(success bool) error {
	err := r.stock.end()
	if r.pack != nil {
		err = errors.Join(err, r.pack.close(success))
	}
	if !success {
		time.AfterFunc(packKept+time.Minute, func() {
			if err := r.Tidy(); err != nil {
				slog.Warn("what was kept of a move that was broken off stays", "error", err)
			}
		})
	}
	r.hold.Release()
	r.wire.close()
	return err
}

func (r *receiving) next(ctx context.Context) (kind, []byte, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, nil, err
	}
	k, b, err := r.wire.read(r.room)
	if cap(b) > cap(r.room) && cap(b) <= maxFrame {
		r.room = b
	}
	return k, b, err
}

func (r *receiving) hear(ctx context.Context) (*message, error) {
	k, b, err := r.next(ctx)
	if err != nil {
		return nil, err
	}
	return parse(k, b)
}

// converse answers until the sender hangs up.
func (r *receiving) converse(ctx context.Context) error {
	m, err := r.hear(ctx)
	if err != nil {
		return err
	}
	if m.Hello == nil || m.Hello.Protocol < 1 {
		return fmt.Errorf("the other daemon does not greet: %w", errdefs.ErrInvalidArgument)
	}
	if m.Hello.Protocol > protocol {
		return &fault.Error{
			Code: "move-version", What: "the kist there is too old for this move", Class: errdefs.ErrFailedPrecondition,
			Cause: fmt.Sprintf("it is %s, the one here is %s", r.Version, m.Hello.Version), Try: "upgrade kist there",
		}
	}
	if r.pack, err = openPack(r.packs(), m.Hello.Store+" "+m.Hello.Item, r.wire.unpack); err != nil {
		return err
	}
	if err := r.wire.say(&message{Hello: r.hello()}); err != nil {
		return err
	}
	for ended := false; ; {
		m, err := r.hear(ctx)
		if errors.Is(err, errLost) && ended {
			return nil
		}
		if err != nil {
			return err
		}
		if ended, err = r.answer(ctx, m); err != nil {
			return err
		}
	}
}

// answer does what a message asks for. ended says that something is complete: if nothing more comes, that is the end.
func (r *receiving) answer(ctx context.Context, m *message) (ended bool, err error) {
	switch {
	case m.Image != nil:
		return !m.Image.Modest, r.image(ctx, m.Image)
	case m.Volume != nil:
		return !r.awaited, r.takeVolume(ctx, m.Volume)
	case m.Container != nil && m.Container.Check:
		return false, r.check(ctx, m.Container)
	case m.Container != nil:
		return true, r.container(ctx, m.Container)
	}
	return false, fmt.Errorf("the other daemon says nothing that is known here: %w", errdefs.ErrInvalidArgument)
}

// look finds out what pieces are here, once, as far as that is worth it.
func (r *receiving) look(ctx context.Context) error {
	if r.looked {
		return nil
	}
	r.looked = true
	if err := tidyListings(r.listings(), r.Layers); err != nil {
		return fmt.Errorf("look for what is here: %w", err)
	}
	if r.volume != "" {
		if err := r.lookVolume(ctx); err != nil {
			return err
		}
	}
	if err := r.lookLayers(ctx, r.prefer, maxRelatives); err != nil {
		return err
	}
	return r.lookLayers(ctx, r.Layers.All(), maxOthers)
}

// lookLayers finds pieces in layers, reading no more than so many bytes of those that were not looked through before.
func (r *receiving) lookLayers(ctx context.Context, ids []digest.Digest, most int64) error {
	for _, id := range ids {
		if r.skip[id] || r.stock.full() || !r.hold.Take(id) {
			continue
		}
		size, err := r.Layers.Size(id)
		if err != nil || size > most && !isListed(r.listings(), id) {
			continue
		}
		r.skip[id] = true
		read, err := r.stock.addLayer(ctx, r.Layers, r.listings(), id)
		if err != nil {
			return fmt.Errorf("look for what is here: %w", err)
		}
		most -= read
	}
	return nil
}

// lookVolume finds pieces in the volume that is going to be replaced.
func (r *receiving) lookVolume(ctx context.Context) error {
	v, err := r.Volumes.Inspect(ctx, r.volume)
	if err != nil || v.Options["type"] != "" {
		return nil //nolint:nilerr // there is none
	}
	n := r.stock.addRoot(func() (*sys.Root, error) { return sys.OpenRoot(v.Mountpoint) })
	root, err := r.stock.roots[n].get()
	if err != nil {
		return err
	}
	_, err = lookThrough(ctx, root, func(l *listed) error {
		r.stock.add(n, l)
		return nil
	})
	return err
}

// roomFor refuses what does not fit on the disk, before any of it has come.
func (r *receiving) roomFor(bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(r.Dir, &st); err != nil {
		return fmt.Errorf("ask for the room on the disk: %w", err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free > bytes {
		return nil
	}
	return &fault.Error{
		Code: "move-no-room", What: "there is no room for it on the other host", Class: errdefs.ErrResourceExhausted,
		Cause: fmt.Sprintf("it needs about %d MB in %s, and %d MB are free", bytes>>20, r.Dir, free>>20), Try: "kist system prune there",
	}
}

func (r *receiving) explainFull(err error) error { return content.ExplainFull(r.Dir, err) }
