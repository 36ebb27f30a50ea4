package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	kistarchive "github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// list is a list of packages on its way into the index.
type list struct {
	archive *archive
	path    string
	want    debian.File
	packed  *os.File
	text    *os.File
}

// lists finds out which packages there are, and which of them are wanted.
func (j *job) lists(ctx context.Context) error {
	j.apt = readApt(j.m.cfg.Root, j.note)
	j.net = newFetcher(j.m, j.apt)
	if err := j.plan(); err != nil {
		return err
	}
	if err := j.releases(ctx); err != nil {
		return err
	}
	for _, a := range j.archives { // What is in the image can be as late as the latest of them.
		if a.release.Date.After(j.date) {
			j.date = a.release.Date
		}
	}
	if j.req.Epoch == nil {
		j.epoch = j.date
	}
	all, err := j.fetchLists(ctx)
	if err != nil {
		return err
	}
	if err := j.readLists(all); err != nil {
		return err
	}
	return j.choose()
}

// releases gets all release files, side by side.
func (j *job) releases(ctx context.Context) error {
	there := make([]bool, len(j.archives))
	g, ctx := errgroup.WithContext(ctx)
	for i, a := range j.archives {
		g.Go(func() (err error) {
			there[i], err = j.fetchRelease(ctx, a)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var kept []*archive
	for i, a := range j.archives {
		if there[i] {
			kept = append(kept, a)
		}
	}
	j.archives = kept
	return nil
}

// fetchLists gets all lists, side by side.
func (j *job) fetchLists(ctx context.Context) ([]*list, error) {
	var all []*list
	for _, a := range j.archives {
		for _, c := range a.components {
			paths := a.release.Lists(c, j.arch)
			if len(paths) == 0 {
				if a.optional {
					continue
				}
				return nil, &fault.Error{
					Code: "bootstrap-component", What: "there is no component " + c + " for " + j.arch + " in " + a.name(),
					Cause: "it has " + strings.Join(a.release.Components, ", "), Try: "--components with some of these", Class: errdefs.ErrNotFound,
				}
			}
			all = append(all, &list{archive: a, path: paths[0], want: a.release.Files[paths[0]]})
		}
	}
	var total int64
	for _, l := range all {
		total += l.want.Size
	}
	count := j.counter(bootmsg.StageLists, len(all), total)
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range all {
		g.Go(func() (err error) {
			l.packed, err = j.fetchList(ctx, l, count.bytes)
			count.one(l.archive.suite)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		for _, l := range all {
			_ = l.close()
		}
		return nil, err
	}
	return all, nil
}

// fetchList gets a list: by its hash, where the archive has it so, for that does not change while a mirror is updated.
func (j *job) fetchList(ctx context.Context, l *list, got func(int64)) (*os.File, error) {
	var at []*url.URL
	if l.archive.release.ByHash {
		at = append(at, l.archive.inSuite(path.Join(path.Dir(l.path), "by-hash/SHA256", l.want.Hex())))
	}
	at = append(at, l.archive.inSuite(l.path))
	var err error
	for _, u := range at {
		var f *os.File
		if f, err = j.net.file(ctx, u, l.want, got); err == nil || !missing(err) {
			return f, err
		}
	}
	return nil, err
}

func (l *list) close() error {
	var errs []error
	for _, f := range []*os.File{l.packed, l.text} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	l.packed, l.text = nil, nil
	return errors.Join(errs...)
}

// readLists unpacks the lists, one after the other, and makes an index of them.
func (j *job) readLists(all []*list) error {
	j.index = debian.NewIndex()
	for i, l := range all {
		err := j.readList(l)
		if l.packed != nil {
			_ = l.packed.Close() // it was only read
			l.packed = nil
		}
		j.texts = append(j.texts, l.text)
		if err != nil {
			for _, rest := range all[i+1:] {
				_ = rest.close()
			}
			return fmt.Errorf("%s: %s: %w", l.archive.name(), l.path, err)
		}
		l.archive.lists = append(l.archive.lists, i)
	}
	return nil
}

func (j *job) readList(l *list) error {
	var err error
	if l.text, err = j.net.temp(); err != nil {
		return err
	}
	x := j.index.Add(l.text)
	r, _, err := kistarchive.Decompress(io.NewSectionReader(l.packed, 0, l.want.Size))
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(l.text, x)}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return errors.Join(err, r.Close(), x.Close())
}

// closeLists gives the lists' texts back.
func (j *job) closeLists() {
	for _, f := range j.texts {
		if f != nil {
			_ = f.Close() // it has no name
		}
	}
}

// choose finds the packages that are wanted.
func (j *job) choose() error {
	roots, err := j.index.Roots(j.target.variant)
	if err != nil {
		return err
	}
	w := debian.Wish{Names: roots, Exclude: j.req.Exclude, Avoid: []string{"usrmerge"}}
	w.Names = append(w.Names, j.req.Include...)
	if j.target.variant != debian.Essential && slices.ContainsFunc(j.archives, func(a *archive) bool { return a.uri.Scheme == "https" }) {
		w.Names = append(w.Names, "ca-certificates") // or apt could not go on
	}
	j.packages, err = j.index.Resolve(w)
	var lost *debian.MissingError
	var rivals *debian.ConflictError
	switch {
	case errors.As(err, &lost):
		return j.explainMissing(lost, err)
	case errors.As(err, &rivals):
		return &fault.Error{
			Code: "bootstrap-conflict", What: "the packages cannot be installed together", Cause: rivals.Error(),
			Try: "leave one of them out of --include, or --exclude it", Class: errdefs.ErrConflict, Err: err,
		}
	case err != nil:
		return err
	}
	if len(j.packages) == 0 {
		return invalid("there is nothing to install", "no package of "+j.archives[0].name()+" is essential", "another suite, or --include")
	}
	j.essential = debian.NewSet(j.packages).Closure(isEssential)
	return nil
}

func (j *job) explainMissing(e *debian.MissingError, err error) error {
	f := &fault.Error{Code: "bootstrap-package", What: e.Error(), Class: errdefs.ErrNotFound, Err: err}
	var names []string
	for _, a := range j.archives {
		names = append(names, a.name()+" "+strings.Join(a.components, " "))
	}
	f.Cause = "looked for in " + strings.Join(names, ", ")
	if e.By != "" {
		f.Try = "--exclude for what depends on it, or --components with more"
		return f
	}
	name, _, _ := strings.Cut(e.Want, "=")
	if best, berr := j.index.Best(name); berr == nil && best != nil {
		f.Cause = "there is " + best.String()
		f.Try = "--include " + best.Name
		return f
	}
	if near := typo.Rank(name, j.index.Names(), 3); len(near) > 0 {
		f.Cause += "; nearest: " + strings.Join(near, ", ")
		f.Try = "--include " + near[0]
	}
	return f
}
