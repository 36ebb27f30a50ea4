package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/archive"
)

// trees opens the results as file trees. With several platforms, or if asked for, each has a directory of its own.
func (j *job) trees(ctx context.Context, a attributes, products []product, multi bool) (list []Tree, err error) {
	split, err := a.flag("platform-split", multi && len(products) > 1)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeTrees(list))
			list = nil
		}
	}()
	for i := range products {
		p := &products[i]
		one := Tree{Files: map[string][]byte{}}
		if split {
			one.Prefix = strings.ReplaceAll(p.ID, "/", "_")
		}
		if one.Root, err = j.b.cfg.Layers.OpenStack(p.Layers); err != nil {
			return list, err
		}
		list = append(list, one)
		if err := one.addStatements(ctx, p, a["attestation-prefix"], !split && multi); err != nil {
			return list, err
		}
	}
	return list, nil
}

func closeTrees(list []Tree) error {
	var errs []error
	for _, t := range list {
		errs = append(errs, t.Root.Close())
	}
	return errors.Join(errs...)
}

// exportLocal copies the files to a directory of the client.
func (j *job) exportLocal(ctx context.Context, t *track, e Export, products []product, multi bool) (map[string]string, error) {
	list, err := j.trees(ctx, attributes(e.Attrs), products, multi)
	if err != nil {
		return nil, err
	}
	err = t.part("copying files", func() error { return j.req.Session.OutputTrees(ctx, e.ID, list) })
	return nil, errors.Join(err, closeTrees(list))
}

// exportTar writes the files into a tar at the client.
func (j *job) exportTar(ctx context.Context, t *track, e Export, products []product, multi bool) (map[string]string, error) {
	a := attributes(e.Attrs)
	list, err := j.trees(ctx, a, products, multi)
	if err != nil {
		return nil, err
	}
	epoch, err := a.epoch()
	if err == nil && epoch == nil && len(products) > 0 {
		epoch = products[0].Epoch
	}
	if err != nil {
		return nil, errors.Join(err, closeTrees(list))
	}
	w, err := j.req.Session.Output(ctx, e.ID, e.Attrs)
	if err != nil {
		return nil, errors.Join(err, closeTrees(list))
	}
	err = t.part("sending tarball", func() error { return writeTrees(ctx, list, epoch, w) })
	return nil, errors.Join(err, finish(w, err), closeTrees(list))
}

// writeTrees writes trees into one tar.
func writeTrees(ctx context.Context, list []Tree, epoch *time.Time, w io.Writer) error {
	for _, one := range list {
		o := archive.TarOptions{Name: one.Prefix, NoRoot: one.Prefix == "", Latest: epoch, Open: true}
		if err := archive.Tar(ctx, one.Root, "/", w, o); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	for _, one := range list {
		if err := writeFiles(one, epoch, w); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	_, err := w.Write(make([]byte, 1024)) // the end marker
	return err
}

// writeFiles writes what lies beside a tree.
func writeFiles(one Tree, epoch *time.Time, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(one.Files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(one.Prefix, name), Mode: 0o644, Size: int64(len(one.Files[name]))}
		if epoch != nil {
			h.ModTime = *epoch
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(one.Files[name]); err != nil {
			return err
		}
	}
	return tw.Flush()
}
