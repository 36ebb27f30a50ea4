package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/registry"
)

// mountSources bounds how many repositories are asked to lend a blob.
const mountSources = 3

// PushResult is what Push gives as Aux of its last line.
type PushResult struct {
	Tag    string
	Digest string
	Size   int
}

// Push sends ref (or all its tags) to its registry.
func (s *Store) Push(ctx context.Context, ref string, o PullOptions) error {
	named, err := parseName(ref)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return fmt.Errorf("cannot push a digest reference: %w", errdefs.ErrInvalidArgument)
	}
	list, err := s.pushed(named, o.AllTags)
	if err != nil {
		return err
	}
	repo, err := s.client.Repository(ctx, named, o.Auth)
	if err != nil {
		return err
	}
	defer repo.Close()
	o.Report.status("", "The push refers to repository ["+reference.TrimNamed(named).String()+"]")
	for _, e := range list {
		if err := s.pushOne(ctx, repo, e, o); err != nil {
			return fmt.Errorf("push %s: %w", familiar(e.name), err)
		}
	}
	return nil
}

// pushed lists the entries to push.
func (s *Store) pushed(named reference.Named, all bool) ([]entry, error) {
	snap := s.catalog.snapshot()
	if !all {
		i, ok := snap.byName[named.String()]
		if !ok {
			return nil, &fault.Error{
				Code: "image-not-found", Class: errdefs.ErrNotFound,
				What:  "An image does not exist locally with the tag: " + reference.FamiliarName(named),
				Cause: snap.notFound(named.String()).Error(),
			}
		}
		return []entry{snap.entries[i]}, nil
	}
	var list []entry
	for _, e := range snap.entries {
		if e.name != "" && !isDigestName(e.name) && repository(e.name) == reference.TrimNamed(named).String() {
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("An image does not exist locally with the tag: %s: %w", //nolint:staticcheck // docker's words
			reference.FamiliarName(named), errdefs.ErrNotFound)
	}
	return list, nil
}

func (s *Store) pushOne(ctx context.Context, repo *registry.Repository, e entry, o PullOptions) error {
	r, err := s.record(e.desc)
	if err != nil {
		return err
	}
	if err := checkPlatform(familiar(e.name), r.config.Platform, o.Platform); err != nil {
		return err
	}
	lease := s.content.Lease()
	defer lease.Release()
	set := digests{}
	r.mark(set)
	for d := range set {
		lease.Hold(d)
	}
	if r, err = s.materialize(ctx, lease, r); err != nil {
		return err
	}
	e.desc = r.desc
	p := &push{s: s, repo: repo, r: r, name: e.name, report: o.Report}
	if err := p.blobs(ctx); err != nil {
		return err
	}
	raw, err := s.content.Bytes(r.desc.Digest, manifestLimit)
	if err != nil {
		return err
	}
	tag := strings.TrimPrefix(e.name, repository(e.name)+":")
	if err := repo.PutManifest(ctx, tag, r.desc.MediaType, raw); err != nil {
		return err
	}
	return s.finishPush(e, tag, o.Report)
}

// finishPush tells the digest, and remembers that the registry knows the image by it.
func (s *Store) finishPush(e entry, tag string, report Reporter) error {
	byDigest := repository(e.name) + "@" + e.desc.Digest.String()
	err := s.change(func(ed *editor) error {
		if !ed.has(e.id) || ed.find(byDigest) >= 0 {
			return errUnchanged
		}
		ed.put(entry{name: byDigest, id: e.id, desc: e.desc, source: e.desc.Digest, tagged: time.Now()})
		return nil
	})
	if err != nil {
		return err
	}
	report.status("", fmt.Sprintf("%s: digest: %s size: %d", tag, e.desc.Digest, e.desc.Size))
	if report != nil {
		report(Progress{Aux: PushResult{Tag: tag, Digest: e.desc.Digest.String(), Size: int(e.desc.Size)}})
	}
	s.emit(events.ActionPush, familiar(e.name), familiar(repository(e.name)), nil)
	return nil
}

// push is one running push.
type push struct {
	s      *Store
	repo   *registry.Repository
	r      *record
	name   string
	report Reporter
}

// blobs sends layers, then the configuration.
func (p *push) blobs(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	seen := digests{}
	for _, d := range p.r.manifest.Layers {
		if !seen.has(d.Digest) {
			p.report.status(short(d.Digest), "Preparing")
		}
		seen.add(d.Digest)
	}
	seen = digests{}
	for _, d := range p.r.manifest.Layers {
		if seen.has(d.Digest) {
			continue
		}
		seen.add(d.Digest)
		g.Go(func() error { return p.blob(gctx, d, p.report) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return p.blob(ctx, p.r.manifest.Config, nil)
}

func (p *push) blob(ctx context.Context, d ocispec.Descriptor, report Reporter) error {
	id := short(d.Digest)
	there, err := p.repo.Exists(ctx, d.Digest)
	if err != nil {
		return err
	}
	if there {
		report.status(id, "Layer already exists")
		return nil
	}
	if !p.s.content.Has(d.Digest) {
		if len(d.URLs) > 0 { // A foreign layer stays where it is.
			report.status(id, "Skipped foreign layer")
			return nil
		}
		return &fault.Error{
			Code: "blob-missing", What: "layer " + id + " cannot be pushed", Class: errdefs.ErrDataLoss,
			Cause: "its blob is missing in the image store", Try: "pull the image again",
		}
	}
	for _, from := range p.lenders(d.Digest) {
		mounted, err := p.repo.Mount(ctx, d.Digest, from)
		if err != nil {
			return err
		}
		if mounted {
			report.status(id, "Mounted from "+from)
			return nil
		}
	}
	if err := p.upload(ctx, d, report); err != nil {
		return err
	}
	report.status(id, "Pushed")
	return nil
}

func (p *push) upload(ctx context.Context, d ocispec.Descriptor, report Reporter) error {
	m := report.meter(short(d.Digest), "Pushing", d.Size)
	var damaged error
	open := func() (io.ReadCloser, error) {
		r, err := p.s.content.Open(d.Digest)
		if err != nil {
			return nil, err
		}
		return &watcher{r, &damaged}, nil
	}
	err := p.repo.Upload(ctx, d, open, m.at)
	if err != nil && damaged != nil {
		return damaged
	}
	return err
}

// watcher remembers that the blob being sent turned out to be damaged: what the connection made of it is not the cause.
type watcher struct {
	io.ReadCloser
	damaged *error
}

func (w *watcher) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if errors.Is(err, errdefs.ErrDataLoss) {
		*w.damaged = err
	}
	return n, err
}

// lenders lists repositories of the same registry that are known to have the blob.
func (p *push) lenders(d digest.Digest) []string {
	mine := repository(p.name)
	host, _, _ := strings.Cut(mine, "/")
	var from []string
	for _, e := range p.s.catalog.snapshot().entries {
		if len(from) == mountSources {
			break
		}
		base := repository(e.name)
		other, path, ok := strings.Cut(base, "/")
		if !ok || !isDigestName(e.name) || other != host || base == mine {
			continue
		}
		r, err := p.s.record(e.desc)
		if err != nil {
			continue
		}
		set := digests{}
		r.mark(set)
		if set.has(d) {
			from = append(from, path)
		}
	}
	return from
}
