package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/fault"
)

func someUse() *diskUse {
	const mb = 1000 * 1000
	id := strings.Repeat("abcdef012345", 6)[:64]
	return &diskUse{
		DiskUsage: &engine.DiskUsage{
			LayersSize: 500 * mb, Reclaimable: 90 * mb,
			Images: []image.Summary{
				{ID: "sha256:" + id, RepoTags: []string{"big:1"}, Size: 300 * mb, SharedSize: 100 * mb},
				{ID: "sha256:" + id, Size: 70 * mb, SharedSize: -1},
			},
			Containers: []container.Summary{
				{ID: id, Names: []string{"/runs"}, State: container.StateRunning, SizeRw: 400 * mb},
				{ID: id, Names: []string{"/over"}, State: container.StateExited, SizeRw: 50 * mb},
			},
			Volumes: []volume.Volume{
				{Name: "data", UsageData: &volume.UsageData{Size: 1000 * mb}},
				{Name: "anon", Labels: map[string]string{anonymousVolume: ""}, UsageData: &volume.UsageData{Size: 60 * mb}},
				{Name: "unknown", UsageData: &volume.UsageData{Size: -1}},
			},
		},
		caches: []build.CacheRecord{{Size: 10 * mb}, {Size: 20 * mb, Shared: true}},
	}
}

func TestLargestUsers(t *testing.T) {
	const want = "the largest on it: other files, or what is being written 1.98GB, volume data 1GB, container runs 400MB, image big:1 200MB, image abcdef012345 70MB"
	if got := someUse().largest(4_000_000_000); got != want {
		t.Errorf("got %s", got)
	}
}

func TestRemedy(t *testing.T) {
	for _, c := range []struct {
		change func(*diskUse)
		want   string
	}{
		{func(*diskUse) {}, "kist image prune -a (frees 90MB), kist system df -v"},
		{func(u *diskUse) { u.Reclaimable = 0 }, "kist volume prune (frees 60MB), kist system df -v"},
		{func(u *diskUse) { u.Reclaimable, u.Volumes = 0, nil }, "kist container prune (frees 50MB), kist system df -v"},
		{func(u *diskUse) { u.Reclaimable, u.Volumes, u.Containers = 0, nil, nil }, "kist builder prune (frees 10MB), kist system df -v"},
		{func(u *diskUse) { *u = diskUse{DiskUsage: &engine.DiskUsage{}} }, "kist system df -v"},
	} {
		u := someUse()
		c.change(u)
		if got := u.remedy(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// crowded is a host with a disk that others fill.
type crowded struct{ root string }

func (c crowded) Info(context.Context) (*system.Info, error) {
	return &system.Info{DockerRootDir: c.root}, nil
}

func (c crowded) DiskUsage(context.Context) (*engine.DiskUsage, error) {
	return someUse().DiskUsage, nil
}

func TestExplainFull(t *testing.T) {
	s := New(Config{Host: crowded{root: t.TempDir()}})
	other := errors.New("other")
	if err := s.explainFull(t.Context(), other); err != other { //nolint:errorlint // the very same
		t.Errorf("another error became %v", err)
	}
	full := &fault.Error{Code: "disk-full", What: "no space left on device", Cause: "so little", Err: unix.ENOSPC}
	err := s.explainFull(t.Context(), fmt.Errorf("pull it: %w", full))
	f, ok := fault.As(err)
	if !ok || !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(f.Cause, "so little; the largest on it: ") || !strings.Contains(f.Try, "kist image prune -a") {
		t.Errorf("fault %+v", f)
	}
	if text := err.Error(); !strings.HasPrefix(text, "pull it: no space left on device: so little; the largest on it: ") {
		t.Errorf("said %q", text)
	}
	if again := s.explainFull(t.Context(), err); again != err { //nolint:errorlint // the very same
		t.Errorf("explained twice: %v", again)
	}
	if full.Cause != "so little" {
		t.Errorf("the first fault was changed: %q", full.Cause)
	}
}
