package soak

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func (s *Soak) create(ctx context.Context, config *container.Config, host *container.HostConfig) (string, error) {
	config.Image = Box
	made, err := s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host})
	return made.ID, err
}

func (s *Soak) start(ctx context.Context, id string) error {
	return only(s.docker.ContainerStart(ctx, id, client.ContainerStartOptions{}))
}

func (s *Soak) remove(ctx context.Context, id string) error {
	return only(s.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}))
}

// wait waits for a container's end with a code.
func (s *Soak) wait(ctx context.Context, id string, condition container.WaitCondition, code int64) func() error {
	w := s.docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition})
	return func() error {
		select {
		case r := <-w.Result:
			if r.StatusCode != code {
				return fmt.Errorf("ended with %d, not %d", r.StatusCode, code)
			}
			return nil
		case err := <-w.Error:
			return err
		}
	}
}

// run is docker run --rm, as the command does it, and the container's output.
func (s *Soak) run(ctx context.Context) error {
	id, err := s.create(ctx, &container.Config{Cmd: []string{"sh", "-c", "echo out; echo bad >&2; exit 3"}, AttachStdout: true, AttachStderr: true},
		&container.HostConfig{AutoRemove: true})
	if err != nil {
		return err
	}
	a, err := s.docker.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	defer a.Close()
	ended := s.wait(ctx, id, container.WaitConditionRemoved, 3)
	if err := s.start(ctx, id); err != nil {
		return err
	}
	var out, bad bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &bad, a.Reader); err != nil {
		return err
	}
	if out.String() != "out\n" || bad.String() != "bad\n" {
		return fmt.Errorf("output %q, %q", out.String(), bad.String())
	}
	return ended()
}

// terminal types into a container's shell.
func (s *Soak) terminal(ctx context.Context) error {
	id, err := s.create(ctx, &container.Config{Cmd: []string{"sh"}, Tty: true, OpenStdin: true, StdinOnce: true, AttachStdin: true}, nil)
	if err != nil {
		return err
	}
	a, err := s.docker.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	defer a.Close()
	ended := s.wait(ctx, id, container.WaitConditionNextExit, 4)
	if err := errors.Join(s.start(ctx, id), only(s.docker.ContainerResize(ctx, id, client.ContainerResizeOptions{Height: 40, Width: 100}))); err != nil {
		return err
	}
	if _, err := a.Conn.Write([]byte("stty size; exit 4\n")); err != nil {
		return err
	}
	raw, err := io.ReadAll(a.Reader)
	if err == nil && !bytes.Contains(raw, []byte("40 100")) {
		err = fmt.Errorf("the terminal said %q", raw)
	}
	return errors.Join(err, ended(), s.remove(ctx, id))
}

func (s *Soak) executed(ctx context.Context, cmd ...string) (string, client.ExecAttachResult, error) {
	x, err := s.docker.ExecCreate(ctx, resident(), client.ExecCreateOptions{Cmd: cmd, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", client.ExecAttachResult{}, err
	}
	a, err := s.docker.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
	return x.ID, a, err
}

func (s *Soak) exec(ctx context.Context) error {
	id, a, err := s.executed(ctx, "sh", "-c", "cat; exit 5")
	if err != nil {
		return err
	}
	defer a.Close()
	if _, err := a.Conn.Write([]byte("through")); err != nil {
		return err
	}
	if err := a.CloseWrite(); err != nil {
		return err
	}
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, io.Discard, a.Reader); err != nil {
		return err
	}
	seen, err := s.docker.ExecInspect(ctx, id, client.ExecInspectOptions{})
	if err == nil && (seen.ExitCode != 5 || out.String() != "through") {
		err = fmt.Errorf("exec: %q, %d", out.String(), seen.ExitCode)
	}
	return err
}

func (s *Soak) execDetached(ctx context.Context) error {
	x, err := s.docker.ExecCreate(ctx, resident(), client.ExecCreateOptions{Cmd: []string{"true"}})
	if err != nil {
		return err
	}
	return only(s.docker.ExecStart(ctx, x.ID, client.ExecStartOptions{Detach: true}))
}

// execDropped goes away while the command runs.
func (s *Soak) execDropped(ctx context.Context) error {
	_, a, err := s.executed(ctx, "sh", "-c", "echo x; sleep 0.2; echo y")
	if err != nil {
		return err
	}
	_, err = a.Reader.ReadByte()
	a.Close()
	return err
}

func (s *Soak) attachDropped(ctx context.Context) error {
	a, err := s.docker.ContainerAttach(ctx, resident(), client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true, Logs: true})
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	a.Close()
	return nil
}

func (s *Soak) waitDropped(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	w := s.docker.ContainerWait(ctx, resident(), client.ContainerWaitOptions{})
	select {
	case <-w.Result:
		return errors.New("a resident has ended")
	case err := <-w.Error:
		if ctx.Err() == nil {
			return err
		}
		return nil
	}
}

func (s *Soak) files(ctx context.Context) error {
	id, err := s.create(ctx, &container.Config{Cmd: []string{"true"}}, nil)
	if err != nil {
		return err
	}
	in, err := archive(map[string]string{"file": "some text"})
	if err != nil {
		return err
	}
	if _, err := s.docker.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: in}); err != nil {
		return err
	}
	r, err := s.docker.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/file"})
	if err != nil {
		return err
	}
	return errors.Join(only(io.Copy(io.Discard, r.Content)), r.Content.Close(), s.remove(ctx, id))
}

// archive is a tar of files.
func archive(files map[string]string) (*bytes.Buffer, error) {
	b := new(bytes.Buffer)
	w := tar.NewWriter(b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return nil, err
		}
	}
	return b, w.Close()
}

// broken is a container whose command is not there.
func (s *Soak) broken(ctx context.Context) error {
	id, err := s.create(ctx, &container.Config{Cmd: []string{"/no/such/command"}}, nil)
	if err != nil {
		return err
	}
	if err := s.start(ctx, id); err == nil {
		return errors.New("a command that is not there was started")
	}
	return s.remove(ctx, id)
}

func (s *Soak) commit(ctx context.Context) error {
	id, err := s.create(ctx, &container.Config{Cmd: []string{"touch", "/made"}}, nil)
	if err != nil {
		return err
	}
	ended := s.wait(ctx, id, container.WaitConditionNextExit, 0)
	if err := errors.Join(s.start(ctx, id), ended()); err != nil {
		return err
	}
	tag := s.name("soak/made")
	if _, err := s.docker.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: tag}); err != nil {
		return err
	}
	return errors.Join(only(s.docker.ImageRemove(ctx, tag, client.ImageRemoveOptions{})), s.remove(ctx, id))
}
