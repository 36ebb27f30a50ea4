package fileop

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/treesum"
)

// InputDigest is what op depends on in its input number i, if that is less than the whole of it: the digest of the
// files that are copied from it and of the files that tell users. All is true if the whole tree counts, because
// something is put on top of it. The layers must be held.
func (o *Ops) InputDigest(ctx context.Context, op *pb.FileOp, i int, src Source) (d digest.Digest, all bool, err error) {
	list, all := selections(op, i, src.Local != nil)
	if all {
		return "", true, nil
	}
	v, err := o.look(ctx, src)
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	h := sha256.New()
	for _, s := range list {
		one, err := v.tree.Digest(ctx, s.Selection)
		if s.users && errdefs.IsNotFound(err) {
			one, err = "none", nil
		}
		if err != nil {
			return "", false, err
		}
		h.Write([]byte(one + "\n"))
	}
	return digest.NewDigest(digest.SHA256, h), false, nil
}

// SelectDigest is the digest of what a selection takes from src: of a bind mount's source, for example.
func (o *Ops) SelectDigest(ctx context.Context, sel treesum.Selection, src Source) (d digest.Digest, err error) {
	v, err := o.look(ctx, src)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	sel.Root = src.Local != nil
	return v.tree.Digest(ctx, sel)
}

// Unchanged says whether what a selection takes from a directory in place, which SelectDigest was asked for, was left alone since: a
// change that was taken back counts.
func (o *Ops) Unchanged(ctx context.Context, sel treesum.Selection, src Source) (same bool, err error) {
	if src.Local == nil {
		return true, nil
	}
	again := &Local{Dir: src.Local.Dir, Key: src.Local.Key, Filter: src.Local.Filter}
	defer func() { err = errors.Join(err, again.Close()) }()
	var seen [2]*treesum.Selected
	for i, l := range []*Local{src.Local, again} {
		v, err := o.look(ctx, Source{Local: l})
		if err != nil {
			return false, err
		}
		sel.Root = true
		if _, err := v.tree.Digest(ctx, sel); errdefs.IsNotFound(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if seen[i], err = v.tree.Select(ctx, sel); err != nil {
			return false, err
		}
	}
	return seen[0].Same(seen[1]), nil
}

// InputFiles calls yield for the files behind InputDigest, in order, each with its own digest, for the explanation of a
// miss.
func (o *Ops) InputFiles(ctx context.Context, op *pb.FileOp, i int, src Source, yield func(string, digest.Digest) bool) (err error) {
	list, all := selections(op, i, src.Local != nil)
	if all {
		list = []selection{{Selection: treesum.Selection{Path: "/", Root: src.Local != nil}}}
	}
	sels := make([]treesum.Selection, 0, len(list))
	for _, s := range list {
		if !s.users {
			sels = append(sels, s.Selection)
		}
	}
	return o.SelectFiles(ctx, sels, src, yield)
}

// SelectFiles calls yield for the files that selections take from src, in order, each with its own digest.
func (o *Ops) SelectFiles(ctx context.Context, sels []treesum.Selection, src Source, yield func(string, digest.Digest) bool) (err error) {
	v, err := o.look(ctx, src)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	for _, sel := range sels {
		var files iter.Seq2[string, digest.Digest]
		sel.Root = src.Local != nil
		if files, err = v.tree.Files(ctx, sel); err != nil {
			return err
		}
		for name, d := range files {
			if !yield(name, d) {
				return nil
			}
		}
	}
	return nil
}

// selection is one thing that an operation takes from an input.
type selection struct {
	treesum.Selection
	users bool // it tells users or groups, and need not be there
}

// selections are what op takes from its input number i; all says that it is the whole.
func selections(op *pb.FileOp, i int, local bool) (list []selection, all bool) {
	for _, a := range op.Actions {
		if a.Input == int64(i) {
			return nil, true
		}
		if c := a.GetCopy(); c != nil && a.SecondaryInput == int64(i) {
			list = append(list, selection{Selection: copySelection(c, local)})
		}
		owner := ownerOf(a)
		for _, u := range []struct {
			opt  *pb.UserOpt
			file string
		}{{owner.GetUser(), passwdFile}, {owner.GetGroup(), groupFile}} {
			if by := u.opt.GetByName(); by != nil && by.Input == int64(i) {
				list = append(list, selection{treesum.Selection{Path: u.file, FollowLinks: true}, true})
			}
		}
	}
	return list, false
}

// copySelection is what a copy takes.
func copySelection(c *pb.FileActionCopy, local bool) treesum.Selection {
	return treesum.Selection{
		Path: c.Src, Wildcard: c.AllowWildcard, FollowLinks: c.FollowSymlink, Root: local,
		Include: c.IncludePatterns, Exclude: c.ExcludePatterns, Required: c.RequiredPaths,
	}
}
