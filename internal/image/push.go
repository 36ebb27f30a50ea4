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
	"github.com/moby/moby/api/types/auxprogress"
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

// pushOne sends all that a name stands for, or the image for one platform: blobs, manifests, and the index if there is one.
func (s *Store) pushOne(ctx context.Context, repo *registry.Repository, e entry, o PullOptions) error {
	lease := s.content.Lease()
	defer lease.Release()
	a := &assembling{s: s, lease: lease, change: func(ctx context.Context, r *record) (*record, error) {
		return s.materialize(ctx, lease, r)
	}}
	var wish []ocispec.Platform
	if o.Platform != nil {
		wish = append(wish, *o.Platform)
	}
	out, err := a.assemble(ctx, e, familiar(e.name), wish)
	if err != nil {
		return err
	}
	tag := strings.TrimPrefix(e.name, repository(e.name)+":")
	if err := s.pushAll(ctx, repo, out, e.name, tag, o.Report); err != nil {
		return err
	}
	return s.finishPush(e, out, tag, o.Report)
}

// pushAll sends blobs first: a registry refuses a manifest that names what it does not have.
func (s *Store) pushAll(ctx context.Context, repo *registry.Repository, out *assembly, name, tag string, report Reporter) error {
	p := &push{s: s, repo: repo, name: name, report: report}
	for _, r := range out.images {
		if err := p.blobs(ctx, &r.manifest); err != nil {
			return err
		}
	}
	for _, d := range out.statements {
		m, ok := s.hasStatement(d)
		if !ok {
			return fmt.Errorf("attestation %s is gone: %w", d.Digest, errdefs.ErrNotFound)
		}
		if err := (&push{s: s, repo: repo, name: name}).blobs(ctx, m); err != nil {
			return err
		}
	}
	if isIndex(out.top.MediaType) {
		for _, r := range out.images {
			if err := p.manifest(ctx, r.desc); err != nil {
				return err
			}
		}
		for _, d := range out.statements {
			if err := p.manifest(ctx, d); err != nil {
				return err
			}
		}
	}
	return s.putManifestAt(ctx, repo, tag, out.top)
}

// putManifestAt sends a manifest or index that is stored here.
func (s *Store) putManifestAt(ctx context.Context, repo *registry.Repository, ref string, d ocispec.Descriptor) error {
	raw, err := s.content.Bytes(d.Digest, manifestLimit)
	if err != nil {
		return err
	}
	return repo.PutManifest(ctx, ref, d.MediaType, raw)
}

// finishPush tells the digest, and what was left out, and remembers that the registry knows the images by it.
func (s *Store) finishPush(e entry, out *assembly, tag string, report Reporter) error {
	sent := out.entry
	sent.name, sent.source, sent.tagged = repository(e.name)+"@"+out.top.Digest.String(), out.top.Digest, time.Now()
	err := s.change(func(ed *editor) error {
		// Of one platform alone that is not this host's nobody asks by what digest it went.
		if sent.id != e.id || !ed.has(e.id) || ed.find(sent.name) >= 0 {
			return errUnchanged
		}
		ed.put(sent)
		return nil
	})
	if err != nil {
		return err
	}
	report.status("", fmt.Sprintf("%s: digest: %s size: %d", tag, out.top.Digest, out.top.Size))
	if report != nil {
		report(Progress{Aux: PushResult{Tag: tag, Digest: out.top.Digest.String(), Size: int(out.top.Size)}})
	}
	leftOut(e, out, report)
	s.emit(events.ActionPush, familiar(e.name), familiar(repository(e.name)), nil)
	return nil
}

// leftOut tells what of the index that a name stands for was not pushed, as it is not here.
func leftOut(e entry, out *assembly, report Reporter) {
	if len(out.absent) == 0 || report == nil {
		return
	}
	if list := out.absentPlatforms(); len(list) > 0 {
		report.status("", fmt.Sprintf("Not here, and so not pushed: %s (kist pull --platform brings one here)", strings.Join(list, ", ")))
	}
	if !isIndex(out.top.MediaType) {
		report(Progress{Aux: auxprogress.ManifestPushedInsteadOfIndex{
			ManifestPushedInsteadOfIndex: true, OriginalIndex: e.index, SelectedManifest: out.top,
		}})
	}
}

// push is one running push.
type push struct {
	s      *Store
	repo   *registry.Repository
	name   string
	report Reporter
}

// blobs sends layers, then the configuration.
func (p *push) blobs(ctx context.Context, m *ocispec.Manifest) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	seen := digests{}
	for _, d := range m.Layers {
		if !seen.has(d.Digest) {
			p.report.status(short(d.Digest), "Preparing")
		}
		seen.add(d.Digest)
	}
	seen = digests{}
	for _, d := range m.Layers {
		if seen.has(d.Digest) {
			continue
		}
		seen.add(d.Digest)
		g.Go(func() error { return p.blob(gctx, d, p.report) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return p.blob(ctx, m.Config, nil)
}

func (p *push) blob(ctx context.Context, d ocispec.Descriptor, report Reporter) error {
	id := short(d.Digest)
	release, err := p.turn(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer release()
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

// turn waits for another push that is bringing the same to the same place. Twice is once too often; and some registries lose what
// comes again for a moment, as they write down anew where it is.
func (p *push) turn(ctx context.Context, d digest.Digest) (release func(), err error) {
	return p.s.sending.Take(ctx, repository(p.name)+"@"+d.String())
}

// manifest sends a manifest that an index is going to name.
func (p *push) manifest(ctx context.Context, d ocispec.Descriptor) error {
	release, err := p.turn(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer release()
	if there, err := p.repo.HasManifest(ctx, d.Digest); err == nil && there {
		return nil
	} // A registry that does not like the question may still take the manifest.
	return p.s.putManifestAt(ctx, p.repo, d.Digest.String(), d)
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
		set := digests{}
		p.s.markEntry(e, set)
		if set.has(d) {
			from = append(from, path)
		}
	}
	return from
}
