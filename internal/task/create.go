package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Create makes the process, paused before execve, and returns its pid in the host's pid namespace and the warnings of
// the set-up (a clamped rlimit, a cgroup controller that is missing). When ctx ends first, what was made is deleted
// behind the caller's back.
func (c *Client) Create(ctx context.Context, r CreateRequest) (pid int, warnings []string, err error) {
	return c.create(ctx, r, false)
}

// Run is Create and Start in one round trip. An execve that fails is told as *ExecError, and the task is gone.
func (c *Client) Run(ctx context.Context, r CreateRequest) (pid int, warnings []string, err error) {
	return c.create(ctx, r, true)
}

func (c *Client) create(ctx context.Context, r CreateRequest, start bool) (int, []string, error) {
	m := CreateMessage{ID: r.ID, Spec: r.Spec, Rootfs: r.Rootfs, Stdin: r.Stdin, StdinOnce: r.StdinOnce, Log: r.Log, Start: start, Private: r.Private, Merged: r.Merged}
	var fds []int
	if r.NetNS != nil {
		m.Slots, fds = []Slot{SlotNetNS}, []int{int(r.NetNS.Fd())}
		if c.keeperVersion() >= 2 {
			for _, fd := range r.Sockets {
				m.Slots, fds = append(m.Slots, SlotSocket), append(fds, fd)
			}
		}
	}
	var profile *specs.LinuxSeccomp
	if s := r.Spec; s != nil && s.Linux != nil && s.Linux.Seccomp != nil {
		profile = s.Linux.Seccomp
		spec, linux := *s, *s.Linux
		linux.Seccomp, spec.Linux = nil, &linux
		m.Spec, m.Profile = &spec, profileKey(profile)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return 0, nil, fmt.Errorf("create task: %w", err)
	}
	for {
		conn, err := c.connection(ctx)
		if err != nil {
			return 0, nil, err
		}
		if err = c.sendProfile(conn, m.Profile, profile); err == nil {
			var ch <-chan outcome
			if ch, err = c.begin(conn, KindCreate, json.RawMessage(body), fds...); err == nil {
				o, werr := c.awaitCreate(ctx, r.ID, ch)
				if err = werr; err == nil {
					return o.reply.Held.PID, o.reply.Warnings, nil
				}
			}
		}
		if !errors.Is(err, errLost) {
			return 0, nil, err
		}
		if start {
			return 0, nil, lostError()
		}
		c.awaitLoss(ctx, conn) // a paused process ends with its keeper: it is safe to make another
	}
}

func (c *Client) awaitCreate(ctx context.Context, id string, ch <-chan outcome) (outcome, error) {
	select {
	case o := <-ch:
		return o, o.failure()
	case <-ctx.Done():
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			select {
			case o := <-ch:
				if o.failure() == nil {
					_ = c.Delete(context.WithoutCancel(ctx), id) // the keeper will tell of it again if this fails
				}
			case <-c.quit:
			}
		}()
		return outcome{}, ctx.Err()
	}
}

// failure returns why a reply brings no new process. One that it brings is stored already.
func (o *outcome) failure() error {
	err := o.err
	if err == nil {
		err = o.reply.Failure.Err()
	}
	if err == nil && o.reply.Held == nil {
		err = errors.New("the keeper's reply holds no process")
	}
	return err
}

// sendProfile gives the keeper a seccomp profile that it has not had yet.
func (c *Client) sendProfile(conn *Conn, key string, p *specs.LinuxSeccomp) error {
	if p == nil {
		return nil
	}
	c.profile.Lock()
	defer c.profile.Unlock()
	c.mu.Lock()
	_, known := c.sent[key]
	current := c.conn == conn
	c.mu.Unlock()
	if !current {
		return errLost
	}
	if known {
		return nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	if err := conn.Send(KindProfile, 0, ProfileMessage{Key: key, Seccomp: b}); err != nil {
		return errors.Join(errLost, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == conn {
		c.sent[key] = struct{}{}
	}
	return nil
}
