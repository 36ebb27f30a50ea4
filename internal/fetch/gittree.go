package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// fetch brings a commit into the mirror, a bare repository that is kept.
func (g *git) fetch(ctx context.Context, mirror string, r *Repository, c *Commit) error {
	if _, err := os.Stat(filepath.Join(mirror, "HEAD")); err != nil {
		tmp := filepath.Join(g.dir, "mirror")
		if _, err := g.run(ctx, "", "init", "--quiet", "--bare", tmp); err != nil {
			return err
		}
		if err := sys.RemoveTree(mirror); err != nil {
			return err
		}
		if err := os.Rename(tmp, mirror); err != nil {
			return err
		}
	}
	if g.has(ctx, mirror, c.ID) {
		return nil
	}
	// By the commit's id if the server allows it, else by the ref, and at last everything.
	var errs []error
	for _, wish := range [][]string{
		{"--depth=1", "--", r.Remote, c.ID}, {"--depth=1", "--", r.Remote, c.Ref}, {"--", r.Remote, "+refs/*:refs/all/*"},
	} {
		args := []string{"fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--no-auto-maintenance"}
		if wish[0] == "--" && g.shallow(mirror) {
			args = append(args, "--unshallow")
		}
		_, err := g.run(ctx, mirror, append(args, wish...)...)
		if err == nil && g.has(ctx, mirror, c.ID) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return &fault.Error{
		Code: "git-ref-missing", What: "git repository " + redact(r.Remote) + " has no commit " + c.ID,
		Cause: "it was not among what the server gave", Class: errdefs.ErrNotFound,
	}
}

func (g *git) shallow(mirror string) bool {
	_, err := os.Stat(filepath.Join(mirror, "shallow"))
	return err == nil
}

// has says whether a commit is there with its tree.
func (g *git) has(ctx context.Context, repo, id string) bool {
	_, err := g.run(ctx, repo, "cat-file", "-e", id+"^{tree}")
	return err == nil
}

// checkout makes a working tree of the mirror's commit.
func (g *git) checkout(ctx context.Context, mirror, work string, r *Repository, c *Commit) error {
	steps := [][]string{{"init", "--quiet", work}, {"-C", work, "remote", "add", "origin", "--", r.Remote}}
	for _, args := range steps {
		if _, err := g.run(ctx, "", args...); err != nil {
			return err
		}
	}
	if err := g.borrow(ctx, mirror, work, r, c); err != nil {
		return err
	}
	if _, err := g.run(ctx, work, "checkout", "--quiet", "--force", "--detach", c.ID); err != nil {
		return err
	}
	if r.SkipSubmodules {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(work, ".gitmodules")); err != nil {
		return nil //nolint:nilerr // there are none
	}
	_, err := g.run(ctx, work, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
	return err
}

// borrow makes the mirror's objects known in the working tree: for good if its .git is kept.
func (g *git) borrow(ctx context.Context, mirror, work string, r *Repository, c *Commit) error {
	if !r.KeepGitDir {
		if shallow, err := os.ReadFile(filepath.Join(mirror, "shallow")); err == nil {
			if err := os.WriteFile(filepath.Join(work, ".git", "shallow"), shallow, 0o600); err != nil {
				return err
			}
		}
		info := filepath.Join(work, ".git", "objects", "info")
		if err := os.MkdirAll(info, 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.Join(mirror, "objects")+"\n"), 0o600)
	}
	local := *g
	local.env = append(append([]string{}, g.env...), "GIT_ALLOW_PROTOCOL=file")
	// A repository gives what one of its refs leads to.
	if _, err := g.run(ctx, mirror, "update-ref", "refs/kist/"+c.ID, c.ID); err != nil {
		return err
	}
	refs := []string{"refs/kist/" + c.ID}
	switch {
	case strings.HasPrefix(c.Ref, "refs/heads/"):
		refs[0] += ":refs/remotes/origin/" + strings.TrimPrefix(c.Ref, "refs/heads/")
	case strings.HasPrefix(c.Ref, "refs/"):
		refs[0] += ":" + c.Ref
	}
	_, err := local.run(ctx, work, append([]string{"fetch", "--quiet", "--no-tags", "--depth=1", "--", "file://" + mirror}, refs...)...)
	return err
}

// deliver moves the tree to where it is wanted. All times are the commit's, and modes the two that git knows, so that the
// same commit makes the same tree.
func (g *git) deliver(ctx context.Context, work string, r *Repository, c *Commit, dir string) error {
	out, err := g.run(ctx, work, "show", "--no-patch", "--no-show-signature", "--format=%ct", c.ID)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return fmt.Errorf("time of the commit: %w", err)
	}
	root, err := sys.OpenRoot(work)
	if err != nil {
		return err
	}
	defer root.Close()
	from, err := subdir(root, r)
	if err != nil {
		return err
	}
	defer from.Close()
	source := sys.NewRoot(from)
	to, err := sys.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := even(sys.FDPath(source.Fd()), r.KeepGitDir, time.Unix(seconds, 0)); err != nil {
		return err
	}
	names, err := readNames(source)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Renameat(source.Fd(), name, to.Fd(), name)
		if errors.Is(err, unix.EXDEV) {
			return archive.Copy(ctx, source, "/", to, "/")
		}
		if err != nil {
			return &os.PathError{Op: "rename", Path: name, Err: err}
		}
	}
	return nil
}

// subdir opens the wished part of the tree. Links in it lead nowhere else.
func subdir(root *sys.Root, r *Repository) (*os.File, error) {
	name := path.Join("/", r.Subdir)
	f, err := root.Open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, &fault.Error{
			Code: "git-subdir-missing", What: "git repository " + redact(r.Remote) + " has no directory " + name,
			Cause: "it is not in the tree of " + orHead(r.Ref), Class: errdefs.ErrNotFound, Err: err,
		}
	}
	return f, err
}

func readNames(root *sys.Root) ([]string, error) {
	f, err := root.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// even takes git's own files out of the tree, unless they are kept, and gives all others the same time and modes.
func even(dir string, keepGit bool, at time.Time) error {
	var dirs []string
	ts := []unix.Timespec{unix.NsecToTimespec(at.UnixNano()), unix.NsecToTimespec(at.UnixNano())}
	err := filepath.WalkDir(dir+"/.", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" && !keepGit {
			if err := sys.RemoveTree(name); err != nil {
				return err
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			dirs = append(dirs, name)
			return os.Chmod(name, 0o755) //nolint:gosec // as git makes them
		}
		if d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			mode := os.FileMode(0o644)
			if info.Mode()&0o100 != 0 {
				mode = 0o755
			}
			if err := os.Chmod(name, mode); err != nil {
				return err
			}
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, dirs[i], ts, 0)
	}
	return err
}
