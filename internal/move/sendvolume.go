package move

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/movemsg"
)

func (s *sending) moveVolume(ctx context.Context, req *movemsg.Request) (*movemsg.Result, error) {
	name := req.NewName
	if name == "" {
		name = req.Name
	}
	if err := s.atRest(ctx, req.Name); err != nil {
		return nil, err
	}
	if err := s.volume(ctx, req.Name, name, req.Replace); err != nil {
		return nil, err
	}
	r := &movemsg.Result{ID: name}
	if req.Remove {
		if err := s.Volumes.Remove(ctx, req.Name, false); err != nil {
			return nil, fmt.Errorf("it is there, but cannot be removed here: %w", err)
		}
		r.Gone = true
	}
	return r, nil
}

// atRest refuses a volume that a running container may be writing to.
func (s *sending) atRest(ctx context.Context, name string) error {
	for _, id := range s.Volumes.Users(name) {
		c, err := s.Containers.Inspect(ctx, id, false)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if c.State.Running || c.State.Restarting {
			return &fault.Error{
				Code: "move-volume-in-use", What: "volume " + name + " is being used", Class: errdefs.ErrConflict,
				Cause: "container " + c.Name[1:] + " runs with it", Try: "kist stop " + c.Name[1:] + ", or move the container: its volumes go with it",
			}
		}
	}
	return nil
}

// volume sends one volume.
func (s *sending) volume(ctx context.Context, name, there string, replace bool) error {
	v, err := s.Volumes.Inspect(ctx, name)
	if err != nil {
		return err
	}
	offer := &volumeOffer{Name: there, Labels: v.Labels, Options: v.Options, Replace: replace, Mounted: v.Options["type"] != ""}
	if offer.Mounted {
		s.note(fmt.Sprintf("volume %s is %s, mounted: its files are not moved", name, v.Options["device"]))
	} else if offer.Size, err = s.Volumes.Size(name); err != nil {
		return err
	}
	if err := s.say(ctx, &message{Volume: offer}); err != nil {
		return err
	}
	m, err := s.hear(ctx)
	if err != nil {
		return err
	}
	if !m.OK {
		return fmt.Errorf("the other daemon does not say whether it takes the volume: %w", errdefs.ErrInvalidArgument)
	}
	if !offer.Mounted {
		if err := s.tar(ctx, "volume "+name, offer.Size, func(ctx context.Context) (io.ReadCloser, error) { return s.openVolume(ctx, name), nil }); err != nil {
			return err
		}
	}
	_, err = s.done(ctx)
	return err
}

func (s *sending) openVolume(ctx context.Context, name string) io.ReadCloser {
	return piped(ctx, func(ctx context.Context, w io.Writer) error {
		return s.Volumes.Export(ctx, name, func() (io.Writer, error) { return w, nil })
	})
}

// piped reads what write writes.
func piped(ctx context.Context, write func(context.Context, io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	p := &pipeReader{PipeReader: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		b := bufio.NewWriterSize(w, 256<<10)
		err := write(ctx, b)
		_ = w.CloseWithError(errors.Join(err, b.Flush()))
	}()
	return p
}

type pipeReader struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close ends the writer too.
func (p *pipeReader) Close() error {
	p.cancel()
	err := p.PipeReader.Close()
	<-p.done
	return err
}
