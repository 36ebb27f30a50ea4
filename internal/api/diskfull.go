package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/fault"
)

const (
	// usersShown is how many of those who fill a disk are named.
	usersShown = 5
	// countWithin bounds the counting, which reads directories: whoever waits for an error gets it.
	countWithin = 5 * time.Second
	// nearlyFull is the free part of a file system that no longer explains a failure to write.
	nearlyFull = 50 // a fiftieth
)

// fullDisk is an error of a full disk that says who fills it.
type fullDisk struct{ fault *fault.Error }

func (f *fullDisk) Error() string { return f.fault.Error() }

func (f *fullDisk) Unwrap() error { return f.fault }

// explainFull adds to the error of a full disk who fills it, and what frees most. Other errors are returned as they are.
func (s *Server) explainFull(ctx context.Context, err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	known, ok := fault.As(err)
	if ok && known.Code != "disk-full" || errors.As(err, new(*fullDisk)) {
		return err
	}
	// Whoever gave up may have gone; it is about this machine, not about the request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), countWithin)
	defer cancel()
	info, ierr := s.Host.Info(ctx)
	if ierr != nil {
		return err
	}
	var st unix.Statfs_t
	if unix.Statfs(info.DockerRootDir, &st) != nil {
		return err
	}
	if !ok { // It may be another file system: a volume's, or a container's own in memory.
		if known, ok = fault.As(content.ExplainFull(info.DockerRootDir, err)); !ok {
			return err
		}
		if st.Bavail > st.Blocks/nearlyFull && st.Ffree > st.Files/nearlyFull {
			roomy := *known
			roomy.Cause = fmt.Sprintf("%s; %s now that what was half written is gone: it needs more, or was written to a volume or a tmpfs that is full", err, known.Cause)
			known = &roomy
		}
	}
	use, uerr := s.count(ctx)
	if uerr != nil {
		return err
	}
	whole := *known
	whole.Cause += "; " + use.largest(int64(st.Blocks-st.Bfree)*st.Bsize)
	const gone = "now that what was half written is gone"
	if unix.Statfs(info.DockerRootDir, &st) == nil && st.Bavail > st.Blocks/nearlyFull && !strings.Contains(whole.Cause, gone) {
		whole.Cause += fmt.Sprintf("; "+gone+", %s are free", bytesOf(&st, st.Bavail))
	}
	whole.Try = use.remedy()
	full := &fullDisk{&whole}
	if before, found := strings.CutSuffix(err.Error(), known.Error()); found && before != "" {
		return fmt.Errorf("%s%w", before, full)
	}
	return full
}

func bytesOf(st *unix.Statfs_t, blocks uint64) string {
	return units.HumanSize(float64(blocks) * float64(st.Bsize))
}

// diskUse is what fills the data root.
type diskUse struct {
	*engine.DiskUsage
	caches []build.CacheRecord
}

// count adds up within its time.
func (s *Server) count(ctx context.Context) (*diskUse, error) {
	type counted struct {
		use *diskUse
		err error
	}
	done := make(chan counted, 1)
	go func() {
		du, err := s.Host.DiskUsage(ctx)
		use := &diskUse{DiskUsage: du}
		if err == nil {
			use.caches, err = s.cacheRecords(ctx)
		}
		done <- counted{use, err}
	}()
	select {
	case c := <-done:
		return c.use, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// largest names the largest users of a file system of which used bytes are in use.
func (u *diskUse) largest(used int64) string {
	type user struct {
		what string
		size int64
	}
	var all []user
	add := func(size int64, what string, args ...any) {
		if size > 0 {
			all = append(all, user{fmt.Sprintf(what, args...), size})
		}
	}
	own := u.LayersSize
	for i := range u.Images {
		x := &u.Images[i]
		name := strings.TrimPrefix(x.ID, "sha256:")[:12]
		if len(x.RepoTags) > 0 {
			name = x.RepoTags[0]
		}
		add(x.Size-max(x.SharedSize, 0), "image %s", name)
	}
	for i := range u.Containers {
		x := &u.Containers[i]
		name := x.ID[:12]
		if len(x.Names) > 0 {
			name = strings.TrimPrefix(x.Names[0], "/")
		}
		own += x.SizeRw
		add(x.SizeRw, "container %s", name)
	}
	for i := range u.Volumes {
		if x := &u.Volumes[i]; x.UsageData != nil && x.UsageData.Size > 0 {
			own += x.UsageData.Size
			add(x.UsageData.Size, "volume %s", x.Name)
		}
	}
	cache := cacheSize(u.caches)
	add(cache, "build cache")
	add(used-own-cache, "other files, or what is being written")
	slices.SortStableFunc(all, func(a, b user) int { return cmp.Compare(b.size, a.size) })
	var parts []string
	for _, x := range all[:min(usersShown, len(all))] {
		parts = append(parts, x.what+" "+units.HumanSize(float64(x.size)))
	}
	return "the largest on it: " + strings.Join(parts, ", ")
}

func cacheSize(records []build.CacheRecord) (size int64) {
	for i := range records {
		if !records[i].Shared {
			size += records[i].Size
		}
	}
	return size
}

// anonymousVolume marks volumes that nobody has named.
const anonymousVolume = "com.docker.volume.anonymous"

// remedy is the prune that frees most. Named volumes are left alone: they hold what people want to keep.
func (u *diskUse) remedy() string {
	var stopped, orphaned int64
	for i := range u.Containers {
		switch u.Containers[i].State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
		default:
			stopped += u.Containers[i].SizeRw
		}
	}
	for i := range u.Volumes {
		x := &u.Volumes[i]
		if _, anonymous := x.Labels[anonymousVolume]; anonymous && x.UsageData != nil && x.UsageData.RefCount == 0 {
			orphaned += x.UsageData.Size
		}
	}
	best, frees := "", int64(0)
	for _, p := range []struct {
		command string
		frees   int64
	}{
		{"kist image prune -a", u.Reclaimable},
		{"kist container prune", stopped},
		{"kist volume prune", orphaned},
		{"kist builder prune", cacheSize(u.caches)},
	} {
		if p.frees > frees {
			best, frees = p.command, p.frees
		}
	}
	if best == "" {
		return "kist system df -v"
	}
	return fmt.Sprintf("%s (frees %s), kist system df -v", best, units.HumanSize(float64(frees)))
}
