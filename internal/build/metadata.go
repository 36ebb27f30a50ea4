package build

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// metadata answers a frontend's question about a source.
func (j *job) metadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (_ *sourceresolver.MetaResponse, err error) {
	if op == nil {
		return nil, fmt.Errorf("a source without identifier: %w", errdefs.ErrInvalidArgument)
	}
	name := opt.LogName
	if name == "" {
		name = "[internal] load metadata for " + op.Identifier
	}
	if j.firstTime(name) {
		t := j.progress.internal(name)
		defer func() { t.end(err) }()
	}
	scheme, rest, _ := strings.Cut(op.Identifier, "://")
	switch scheme {
	case "docker-image":
		return j.imageMetadata(ctx, op, rest, opt.ImageOpt)
	case "oci-layout":
		return j.layoutMetadata(ctx, op, rest, opt)
	case "http", "https":
		if strings.HasPrefix(op.Identifier, uploads) {
			break
		}
		c, err := j.resolveFile(ctx, op.Identifier, op.Attrs)
		if err != nil {
			return nil, err
		}
		m := &sourceresolver.ResolveHTTPResponse{Digest: c.Digest, Filename: c.Filename}
		if !c.LastModified.IsZero() {
			m.LastModified = &c.LastModified
		}
		return &sourceresolver.MetaResponse{Op: op, HTTP: m}, nil
	case "git":
		repo, err := j.repository(ctx, rest, op.Attrs)
		if err != nil {
			return nil, err
		}
		c, err := j.b.cfg.Fetch.ResolveCommit(ctx, repo)
		if err != nil {
			return nil, err
		}
		m := &sourceresolver.ResolveGitResponse{Checksum: c.ID, Ref: c.Ref}
		if c.Tag != "" {
			m.Checksum, m.CommitChecksum = c.Tag, c.ID
		}
		return &sourceresolver.MetaResponse{Op: op, Git: m}, nil
	}
	// Nothing is known before it is fetched.
	return &sourceresolver.MetaResponse{Op: op}, nil
}

// firstTime says whether a question is new to this build. What is asked again is known, and need not be shown again.
func (j *job) firstTime(question string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.asked[question]
	j.asked[question] = true
	return !before
}

func (j *job) imageMetadata(ctx context.Context, op *pb.SourceOp, ref string, opt *sourceresolver.ResolveImageOpt) (*sourceresolver.MetaResponse, error) {
	platform := platforms.Normalize(platforms.DefaultSpec())
	mode := op.Attrs[pb.AttrImageResolveMode]
	if opt != nil {
		if opt.Platform != nil {
			platform = platforms.Normalize(*opt.Platform)
		}
		if opt.ResolveMode != "" {
			mode = opt.ResolveMode
		}
	}
	r, err := j.resolveImage(ctx, ref, mode, platform)
	if err != nil {
		return nil, j.unknownImage(ref, err)
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: r.digest, Config: r.config}}, nil
}

func (j *job) layoutMetadata(ctx context.Context, op *pb.SourceOp, ref string, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	platform, store := platforms.Normalize(platforms.DefaultSpec()), storeOf(ref, op.Attrs)
	if o := opt.OCILayoutOpt; o != nil {
		if o.Platform != nil {
			platform = platforms.Normalize(*o.Platform)
		}
		if o.Store.StoreID != "" {
			store = o.Store.StoreID
		}
	}
	l, err := j.layout(ctx, store, ref, platform)
	if err != nil {
		return nil, err
	}
	_, d, _ := strings.Cut(ref, "@")
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: digest.Digest(d), Config: l.config}}, nil
}
