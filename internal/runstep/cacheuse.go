package runstep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// cacheMount mounts a directory that survives the step.
func (s *step) cacheMount(ctx context.Context, m *Mount) error {
	if m.CacheOpt == nil || m.CacheOpt.ID == "" {
		return fmt.Errorf("cache mount at %s without an id: %w", m.Dest, errdefs.ErrInvalidArgument)
	}
	if m.Source.Local != nil {
		return fmt.Errorf("cache mount at %s on the build context: %w", m.Dest, errdefs.ErrInvalidArgument)
	}
	use := cacheUse{
		caches: s.r.caches, id: m.CacheOpt.ID, base: baseOf(m), sharing: m.CacheOpt.Sharing,
		notice: func(line string) {
			if s.Notice != nil {
				s.Notice(line)
			}
		},
		fill: func(dir string) error { return s.fillCache(ctx, m, dir) },
	}
	dir, release, err := use.acquire(ctx)
	if err != nil {
		return err
	}
	s.push(func(context.Context) error { release(); return nil })
	s.bind(m, dir, "nosuid", "nodev")
	return nil
}

// baseOf identifies what a cache begins with: the same cache on another base is another one.
func baseOf(m *Mount) string {
	if len(m.Source.Layers) == 0 {
		return ""
	}
	var b strings.Builder
	for _, l := range m.Source.Layers {
		b.WriteString(l.String())
		b.WriteByte(' ')
	}
	return b.String() + m.Selector
}

func cacheKey(m *Mount) string { return keyOf(m.CacheOpt.GetID(), baseOf(m)) }

// fillCache copies what a new cache begins with, its owner and mode with it.
func (s *step) fillCache(ctx context.Context, m *Mount, dir string) error {
	if len(m.Source.Layers) == 0 {
		return nil
	}
	id := s.mountRoot()
	base := &Mount{Mount: &pb.Mount{Dest: m.Dest, Selector: m.Selector, Readonly: true}, Source: m.Source}
	if _, err := s.prepare(ctx, base, id, true); err != nil {
		return err
	}
	from, err := s.r.cfg.Layers.Mount(id)
	if err != nil {
		return err
	}
	defer func() { _ = closeOnce(from) }()
	to, err := sys.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := archive.Copy(ctx, from, "/"+m.Selector, to, "/"); err != nil {
		return fmt.Errorf("from %s: %w", m.Selector, err)
	}
	return likeTop(from, m.Selector, dir)
}

// likeTop gives a cache's directory the owner and mode of what it was begun from.
func likeTop(from *sys.Root, name, dir string) error {
	st, err := from.Stat("/" + name)
	if err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, int(st.Uid), int(st.Gid)), os.Chmod(dir, sys.FileMode(st.Mode)))
}

// cacheUse is the wish for a cache.
type cacheUse struct {
	caches  *Caches
	id      string
	base    string
	sharing pb.CacheSharingOpt
	notice  func(text string)
	fill    func(dir string) error
}

// acquire finds a directory that may be used, waiting for one if it must.
func (u *cacheUse) acquire(ctx context.Context) (dir string, release func(), err error) {
	c := u.caches
	said := false
	for {
		c.mu.Lock()
		d, build := u.chooseLocked()
		wait := c.changed
		c.mu.Unlock()
		if build != nil {
			if d, err = build(); err != nil {
				return "", nil, err
			}
		}
		if d != nil {
			now := time.Now()
			_ = os.Chtimes(d.path, now, now) // Only for the order in which caches are dropped.
			return filepath.Join(d.path, "d"), func() { c.release(d) }, nil
		}
		if !said {
			u.notice(fmt.Sprintf("waiting for cache mount %s, which another step is using", cleanID(u.id)))
			said = true
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
}

// chooseLocked takes a directory that is free for this use, or returns how one is made. Neither means that one must wait.
func (u *cacheUse) chooseLocked() (*cacheDir, func() (*cacheDir, error)) {
	c := u.caches
	key := keyOf(u.id, u.base)
	one := c.byKey[key]
	if one == nil {
		one = &cache{key: key, cacheMeta: cacheMeta{ID: u.id, Base: u.base, Created: time.Now().UTC()}}
		c.byKey[key] = one
	}
	if seed := c.byKey[seedKey(u.id)]; seed != nil && seed.free() && one.free() {
		delete(c.byKey, seed.key)
		old := one.dirs
		one.dirs = nil
		return nil, u.planLocked(one, old, func(dir string) error { return c.takeSeed(seed, dir) })
	}
	exclusive := u.sharing != pb.CacheSharingOpt_SHARED
	for _, d := range one.dirs {
		switch {
		case !d.exclusive && (!exclusive || d.users == 0):
			d.users, d.exclusive, d.used = d.users+1, exclusive, time.Now()
			return d, nil
		case u.sharing != pb.CacheSharingOpt_PRIVATE:
			return nil, nil // The first one is everybody's.
		}
	}
	return nil, u.planLocked(one, nil, u.fill)
}

// free says whether nobody uses the cache.
func (one *cache) free() bool {
	return !slices.ContainsFunc(one.dirs, func(d *cacheDir) bool { return d.users > 0 })
}

// planLocked reserves a new directory, for which others wait, and returns how it is made; those replaced go before.
func (u *cacheUse) planLocked(one *cache, replaced []*cacheDir, fill func(string) error) func() (*cacheDir, error) {
	c := u.caches
	n := one.number()
	d := &cacheDir{path: filepath.Join(c.dir, one.key, strconv.Itoa(n)), users: 1, exclusive: true, used: time.Now()}
	one.dirs = append(one.dirs, d)
	return func() (*cacheDir, error) {
		var err error
		for _, old := range replaced {
			err = errors.Join(err, c.discard(old.path))
		}
		if err == nil {
			err = c.make(one, d.path, fill)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changedLocked()
		if err != nil {
			one.drop(d)
			return nil, err
		}
		d.exclusive = u.sharing != pb.CacheSharingOpt_SHARED
		return d, nil
	}
}

// drop forgets a directory.
func (one *cache) drop(d *cacheDir) {
	one.dirs = slices.DeleteFunc(one.dirs, func(other *cacheDir) bool { return other == d })
}

// release gives a directory back.
func (c *Caches) release(d *cacheDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.users--
	d.exclusive, d.used = false, time.Now()
	c.changedLocked()
}
