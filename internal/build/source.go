package build

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/treesum"
)

// sourceOperation finds who brings a source.
func (j *job) sourceOperation(v *vertex, op *pb.SourceOp) (operation, error) {
	scheme, rest, _ := strings.Cut(op.Identifier, "://")
	switch scheme {
	case "local":
		return &localOp{j: j, name: rest, attrs: op.Attrs}, nil
	case "docker-image":
		return &imageOp{j: j, v: v, ref: rest, attrs: op.Attrs}, nil
	case "http", "https":
		return &httpOp{j: j, url: op.Identifier, attrs: op.Attrs}, nil
	case "git":
		return &gitOp{j: j, id: rest, attrs: op.Attrs}, nil
	case "oci-layout":
		return &layoutOp{j: j, v: v, ref: rest, store: storeOf(rest, op.Attrs)}, nil
	}
	return nil, fmt.Errorf("sources of kind %q, as %s: %w", scheme, op.Identifier, errdefs.ErrNotImplemented)
}

// localOp is a directory of the client. Its result is the directory as it lies: who copies from it looks at what is
// copied, and nobody at the rest.
type localOp struct {
	j     *job
	name  string
	attrs map[string]string
}

func (o *localOp) key(context.Context, *track, []result) (cacheKey, error) { return cacheKey{}, nil }

func (o *localOp) run(ctx context.Context, t *track, _ []result) ([]result, error) {
	options := LocalOptions{
		SharedKey: o.attrs[pb.AttrSharedKeyHint], Whole: o.attrs[pb.AttrLocalDiffer] == pb.AttrLocalDifferNone,
		Session: o.attrs[pb.AttrLocalSessionID],
	}
	for key, into := range map[string]*[]string{
		pb.AttrIncludePatterns: &options.Include, pb.AttrExcludePatterns: &options.Exclude, pb.AttrFollowPaths: &options.FollowPaths,
	} {
		if text := o.attrs[key]; text != "" {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				return nil, fmt.Errorf("the source %s: %s: %w: %w", o.name, key, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	if o.j.req.Session == nil {
		return nil, fmt.Errorf("the build wants the directory %q, and there is no client to ask for it: %w", o.name, errdefs.ErrFailedPrecondition)
	}
	dir, err := o.j.req.Session.Local(ctx, o.name, options)
	if err != nil {
		return nil, err
	}
	local := &fileop.Local{Dir: dir.Dir, Key: dir.Key}
	if dir.InPlace {
		local.Filter = treesum.Filter{Include: options.Include, Exclude: options.Exclude, FollowPaths: options.FollowPaths}
	}
	o.j.atEnd(func() {
		_ = local.Close() // Only descriptors are given back.
		if dir.Release != nil {
			dir.Release()
		}
	})
	o.j.noteLocal(o.name, dir)
	t.running()
	return []result{{Source: fileop.Source{Local: local}}}, nil
}
