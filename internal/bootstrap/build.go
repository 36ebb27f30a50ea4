package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// hands is how many packages are unpacked at a time: each needs a window of some megabytes.
var hands = min(max(runtime.GOMAXPROCS(0), 2), 4)

// ahead is how many packages may lie there, fetched and not unpacked.
const ahead = 64

// prepareOptions: nothing of the writable layer has to survive a crash of the machine, as long as it is one.
var prepareOptions = layer.PrepareOptions{Volatile: true}

// build makes the image.
func (j *job) build(ctx context.Context, res *bootmsg.Result) (err error) {
	id := newID()
	overlay, err := j.m.cfg.Layers.Prepare(ctx, id, nil, prepareOptions)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, j.m.cfg.Layers.Remove(context.WithoutCancel(ctx), id))
		}
	}()
	sys.Spread(overlay.Upper)
	root, err := sys.OpenRoot(overlay.Upper)
	if err != nil {
		return err
	}
	defer root.Close()
	var all []*unpacked
	if err := j.stage(bootmsg.StageUnpack, func() (err error) {
		all, err = j.fill(ctx, root)
		return err
	}); err != nil {
		return content.ExplainFull(j.m.cfg.Dir, err)
	}
	if err := j.stage(bootmsg.StageConfigure, func() error { return j.configure(ctx, id, root, all) }); err != nil {
		return err
	}
	return j.stage(bootmsg.StagePack, func() error {
		size, err := j.pack(ctx, id, root, res)
		done = err == nil
		res.Size = size
		return err
	})
}

// fetched is a package's file.
type fetched struct {
	n    int
	file *os.File
}

// fill fetches the packages and unpacks them meanwhile, and writes dpkg's database.
func (j *job) fill(ctx context.Context, root *sys.Root) ([]*unpacked, error) {
	t := newTree(root, j.merged())
	all := make([]*unpacked, len(j.packages))
	files := make(chan fetched, ahead)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(files)
		return j.fetchAll(ctx, files)
	})
	count := j.counter(bootmsg.StageUnpack, len(j.packages), 0)
	for range hands {
		g.Go(func() error {
			u := newUnpacker(t)
			defer u.close()
			for f := range files {
				p, err := j.unpack(ctx, u, f)
				if err != nil {
					return fmt.Errorf("unpack %s: %w", j.packages[f.n], err)
				}
				all[f.n] = p
				count.one(p.pkg.Name)
			}
			return nil
		})
	}
	err := g.Wait()
	for f := range files { // after an error
		_ = f.file.Close()
	}
	if err != nil {
		return nil, err
	}
	d := &database{root: root, t: t}
	if err := d.write(all); err != nil {
		return nil, fmt.Errorf("write dpkg's database: %w", err)
	}
	return all, j.settings(root)
}

// fetchAll fetches all packages, the largest first: the last ones to be unpacked are small then, and no processor waits.
func (j *job) fetchAll(ctx context.Context, files chan<- fetched) error {
	var total int64
	order := make([]int, len(j.packages))
	for i, p := range j.packages {
		order[i] = i
		total += p.File.Size
	}
	slices.SortFunc(order, func(a, b int) int { return int(j.packages[b].File.Size - j.packages[a].File.Size) })
	count := j.counter(bootmsg.StageFetch, len(order), total)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for _, n := range order {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			p := j.packages[n]
			f, err := j.net.file(ctx, j.archiveOf(p).at(p.Filename), p.File, count.bytes)
			if err != nil {
				return err
			}
			count.one(p.Name)
			select {
			case files <- fetched{n, f}:
				return nil
			case <-ctx.Done():
				return errors.Join(context.Cause(ctx), f.Close())
			}
		})
	}
	return g.Wait()
}

// archiveOf is the archive whose list a package is in.
func (j *job) archiveOf(p *debian.Package) *archive {
	for _, a := range j.archives {
		if slices.Contains(a.lists, p.List) {
			return a
		}
	}
	return j.archives[0]
}

// unpack unpacks a package, and gives its file back.
func (j *job) unpack(ctx context.Context, u *unpacker, f fetched) (*unpacked, error) {
	defer f.file.Close()
	pkg := j.packages[f.n]
	d, err := debian.OpenDeb(f.file, pkg.File.Size)
	if err != nil {
		return nil, err
	}
	p := &unpacked{pkg: pkg, rank: rank(pkg, f.n), essential: j.essential[pkg]}
	if err := readControl(d, p); err != nil {
		return nil, err
	}
	if p.careful {
		return p, j.lay(u.t.root, p, f.file)
	}
	return p, u.data(ctx, d, p)
}

// lay puts the file of a package where dpkg unpacks it.
func (j *job) lay(root *sys.Root, p *unpacked, from *os.File) error {
	dir, err := root.MkdirAll(debDir, 0o755)
	if err != nil {
		return err
	}
	_ = dir.Close() // it was only opened
	to, err := root.Open(strings.TrimPrefix(debPlace(p), "/"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.NewSectionReader(from, 0, p.pkg.File.Size))
	return errors.Join(err, to.Close())
}

// split are the suites from before /bin and /lib were links into /usr; splitWithoutSaying those that do not ask whether they are.
var (
	split              = []string{"etch", "lenny", "squeeze", "wheezy", "jessie", "stretch", "precise", "trusty", "xenial", "bionic"}
	splitWithoutSaying = append(slices.Clone(split), "buster", "bullseye")
)

// names are those of the suite.
func (j *job) names() []string { return []string{j.target.suite, j.archives[0].release.Codename} }

// merged says whether /bin, /lib and others are links into /usr, as debootstrap decides it.
func (j *job) merged() bool {
	old := split
	if j.target.variant == debian.Buildd {
		old = append(slices.Clone(splitWithoutSaying), "bookworm")
	}
	return !slices.ContainsFunc(j.names(), func(n string) bool { return slices.Contains(old, n) })
}
