package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/build"
)

// Local implements build.Session: it receives what is wanted of a directory of the client. Steps of one build that want
// the same of the same directory share one receipt.
func (c *clientSession) Local(ctx context.Context, name string, o build.LocalOptions) (*build.LocalDir, error) {
	c = c.holder(ctx, o.Session)
	key := treeKey(c.caller.SharedKey(), name, o)
	wanted := strings.Join([]string{key, name, strconv.FormatBool(o.Whole), list(o.Include), list(o.Exclude), list(o.FollowPaths)}, "\x00")
	c.mu.Lock()
	sh, ok := c.locals[wanted]
	if !ok {
		sh = new(shared)
		c.locals[wanted] = sh
	}
	sh.uses++
	c.mu.Unlock()
	sh.once.Do(func() { sh.tree, sh.err = c.receive(ctx, key, name, o) })
	if sh.err != nil {
		c.leave(wanted, sh)
		return nil, sh.err
	}
	return &build.LocalDir{Dir: sh.tree.dir, Key: "client-" + sh.tree.name, Release: func() { c.leave(wanted, sh) }}, nil
}

// holder is the session that has a directory: that of a target which this build stands on (buildx bake, docker compose with
// "service:" contexts) while it is there, else this one.
func (c *clientSession) holder(ctx context.Context, id string) *clientSession {
	if id == "" || id == c.id {
		return c
	}
	caller, err := c.s.sessions.Get(ctx, id, true)
	if err != nil || caller == nil {
		return c
	}
	return &clientSession{s: c.s, id: id, caller: caller, locals: map[string]*shared{}}
}

func list(s []string) string { return strings.Join(s, "\x01") }

// treeKey names a directory of a client over several builds; empty if the client does not.
func treeKey(clients, name string, o build.LocalOptions) string {
	if clients == "" && o.SharedKey == "" {
		return ""
	}
	return strings.Join([]string{name, o.SharedKey, clients}, "\x00")
}

// leave gives a receipt up; the last one gives the directory back.
func (c *clientSession) leave(wanted string, sh *shared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sh.uses--; sh.uses > 0 {
		return
	}
	delete(c.locals, wanted)
	if sh.tree == nil {
		return
	}
	if err := sh.tree.release(); err != nil {
		c.s.cfg.Log.Warn("remove a client's files", "error", err)
	}
}

// receive brings a directory up to date with the client's.
func (c *clientSession) receive(ctx context.Context, key, name string, o build.LocalOptions) (_ *tree, err error) {
	t, err := c.s.trees.claim(key)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.release())
		}
	}()
	if err := c.sync(ctx, t.dir, name, o); err != nil {
		if code := grpcerrors.Code(err); code == codes.NotFound || code == codes.Unimplemented {
			return nil, fmt.Errorf("the client gives no directory %q: %w", name, errdefs.ErrNotFound)
		}
		return nil, fmt.Errorf("receive %s: %w", name, err)
	}
	return t, nil
}

// sync receives into dir. The client's paths are resolved inside of it.
func (c *clientSession) sync(ctx context.Context, dir, name string, o build.LocalOptions) error {
	ctx, cancel := context.WithCancel(c.caller.Context(ctx))
	defer cancel()
	md := metadata.MD{"dir-name": {name}}
	addEncoded(md, "include-patterns", o.Include)
	addEncoded(md, "exclude-patterns", o.Exclude)
	addEncoded(md, "followpaths", o.FollowPaths)
	stream, err := filesync.NewFileSyncClient(c.caller.Conn()).DiffCopy(metadata.NewOutgoingContext(ctx, md))
	if err != nil {
		return err
	}
	osRoot, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	root := fsutil.NewRoot(osRoot)
	opt := fsutil.ReceiveOpt{}
	if o.Whole {
		opt.Differ = fsutil.DiffNone
	}
	err = fsutil.ReceiveRoot(ctx, stream, root, opt)
	if err == nil {
		err = stream.CloseSend()
	}
	return errors.Join(err, root.Close())
}

// addEncoded adds values to metadata as BuildKit's clients read them: other than plain ASCII is escaped, which a further
// key says.
func addEncoded(md metadata.MD, key string, values []string) {
	if values == nil {
		return
	}
	plain := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e || r < 0x20 })
	}
	out := slices.Clone(values)
	if slices.ContainsFunc(values, func(s string) bool { return !plain(s) }) {
		for i, s := range out {
			out[i] = url.QueryEscape(s)
		}
		md.Set(key+"-encoded", "1")
	}
	md[key] = out
}
