package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kistdev/kist/internal/fetch"
	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/layer"
)

// put makes a layer of what fn puts into an empty directory.
func (j *job) put(ctx context.Context, fn func(dir string) error) ([]result, error) {
	id := newID()
	rootfs, err := j.b.cfg.Layers.Prepare(ctx, id, nil, layer.PrepareOptions{Volatile: true, Bare: true})
	if err != nil {
		return nil, err
	}
	if err := fn(rootfs.Upper); err != nil {
		return nil, errors.Join(err, j.b.cfg.Layers.Remove(context.WithoutCancel(ctx), id))
	}
	made, err := j.b.cfg.Layers.Commit(ctx, id, layer.CommitOptions{Hold: j.hold})
	if err != nil {
		return nil, errors.Join(err, j.b.cfg.Layers.Remove(context.WithoutCancel(ctx), id))
	}
	r := result{}
	if made.DiffID != "" {
		r.Source = fileop.Source{Layers: []digest.Digest{made.DiffID}}
	}
	return []result{r}, nil
}

// refuse names the attributes of a source that change what it means and are not known here.
func refuse(attrs map[string]string, prefixes ...string) error {
	for name, value := range attrs {
		for _, p := range prefixes {
			if value != "" && strings.HasPrefix(name, p) {
				return fmt.Errorf("sources with %s: %w", name, errdefs.ErrNotImplemented)
			}
		}
	}
	return nil
}

// httpOp is a file from a server, or a stream that the client offers.
type httpOp struct {
	j     *job
	url   string
	attrs map[string]string
	found *fetch.Content
}

// uploads is the host of streams that the client offers.
const uploads = "http://buildkit-session/"

func (o *httpOp) key(ctx context.Context, t *track, _ []result) (cacheKey, error) {
	if strings.HasPrefix(o.url, uploads) {
		return cacheKey{}, nil
	}
	t.running()
	var err error
	if o.found, err = o.j.resolveFile(ctx, o.url, o.attrs); err != nil {
		return cacheKey{}, err
	}
	words := strings.Join([]string{
		o.found.Digest.String(), o.found.Filename, o.found.LastModified.String(), o.attrs[pb.AttrHTTPPerm], o.attrs[pb.AttrHTTPUID],
		o.attrs[pb.AttrHTTPGID],
	}, "\n")
	d, err := keyOf("http", wrapperspb.String(words))
	return cacheKey{digest: d, kind: "source.http", parts: func() []part {
		return []part{{name: "the file at " + redact(o.url), value: words}}
	}}, err
}

// resolveFile finds out what a URL holds now.
func (j *job) resolveFile(ctx context.Context, url string, attrs map[string]string) (*fetch.Content, error) {
	if err := refuse(attrs, "http.sig."); err != nil {
		return nil, err
	}
	f := fetch.File{URL: url, Checksum: digest.Digest(attrs[pb.AttrHTTPChecksum]), Filename: attrs[pb.AttrHTTPFilename], Header: http.Header{}}
	for name, value := range attrs {
		if header, ok := strings.CutPrefix(name, pb.AttrHTTPHeaderPrefix); ok {
			f.Header.Set(header, value)
		}
	}
	if id := attrs[pb.AttrHTTPAuthHeaderSecret]; id != "" {
		secret, err := j.secret(ctx, id)
		if err != nil {
			return nil, err
		}
		if secret != "" {
			f.Header.Set("Authorization", secret)
		}
	}
	return j.b.cfg.Fetch.ResolveFile(ctx, f)
}

func (o *httpOp) run(ctx context.Context, t *track, _ []result) ([]result, error) {
	if strings.HasPrefix(o.url, uploads) {
		return o.upload(ctx, t)
	}
	var a fetch.FileAttributes
	for _, n := range []struct {
		attr string
		base int
		set  func(int)
	}{
		{pb.AttrHTTPPerm, 8, func(v int) { a.Mode = os.FileMode(v) & os.ModePerm }}, //nolint:gosec // Masked.
		{pb.AttrHTTPUID, 10, func(v int) { a.UID = v }}, {pb.AttrHTTPGID, 10, func(v int) { a.GID = v }},
	} {
		text := o.attrs[n.attr]
		if text == "" {
			continue
		}
		v, err := strconv.ParseUint(text, n.base, 31)
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w: %w", n.attr, text, err, errdefs.ErrInvalidArgument)
		}
		n.set(int(v)) //nolint:gosec // 31 bits.
	}
	return o.j.put(ctx, func(dir string) error { return o.j.b.cfg.Fetch.PutFile(ctx, o.found, a, dir) })
}

func (o *httpOp) upload(ctx context.Context, t *track) ([]result, error) {
	t.running()
	if o.j.req.Session == nil {
		return nil, fmt.Errorf("there is no client to ask for %s: %w", o.url, errdefs.ErrFailedPrecondition)
	}
	r, err := o.j.req.Session.Upload(ctx, o.url)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	name := filepath.Base(o.attrs[pb.AttrHTTPFilename])
	return o.j.put(ctx, func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	})
}

// secret is a secret's value, empty if the client has none.
func (j *job) secret(ctx context.Context, id string) (string, error) {
	if j.req.Session == nil {
		return "", nil
	}
	v, err := j.req.Session.Secret(ctx, id)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	return string(v), err
}

// gitOp is a tree in a git repository.
type gitOp struct {
	j     *job
	id    string
	attrs map[string]string
	repo  fetch.Repository
	found *fetch.Commit
}

func (o *gitOp) key(ctx context.Context, t *track, _ []result) (cacheKey, error) {
	t.running()
	var err error
	if o.repo, err = o.j.repository(ctx, o.id, o.attrs); err != nil {
		return cacheKey{}, err
	}
	if o.found, err = o.j.b.cfg.Fetch.ResolveCommit(ctx, o.repo); err != nil {
		return cacheKey{}, err
	}
	words := fmt.Sprintf("%s\n%s\n%v\n%v", o.found.ID, o.repo.Subdir, o.repo.KeepGitDir, o.repo.SkipSubmodules)
	if o.repo.KeepGitDir {
		words += "\n" + o.found.Ref + "\n" + o.repo.Remote
	}
	d, err := keyOf("git", wrapperspb.String(words))
	return cacheKey{digest: d, kind: "source.git.checkout", parts: func() []part {
		return []part{{name: "the commit in " + redact(o.repo.Remote), value: words}}
	}}, err
}

func (o *gitOp) run(ctx context.Context, _ *track, _ []result) ([]result, error) {
	return o.j.put(ctx, func(dir string) error { return o.j.b.cfg.Fetch.PutCommit(ctx, o.repo, o.found, dir) })
}

// repository reads BuildKit's description of a git source.
func (j *job) repository(ctx context.Context, id string, attrs map[string]string) (fetch.Repository, error) {
	var r fetch.Repository
	if err := refuse(attrs, "git.bundle", "git.checkoutbundle", "git.sig."); err != nil {
		return r, err
	}
	id, fragment, _ := strings.Cut(id, "#")
	r.Remote = attrs[pb.AttrFullRemoteURL]
	if r.Remote == "" {
		r.Remote = id
	}
	if !gitutil.IsGitTransport(r.Remote) {
		r.Remote = "https://" + r.Remote
	}
	r.Ref, r.Subdir, _ = strings.Cut(fragment, ":")
	r.Checksum, r.KnownHosts = attrs[pb.AttrGitChecksum], attrs[pb.AttrKnownSSHHosts]
	r.KeepGitDir = attrs[pb.AttrKeepGitDir] == "true"
	r.SkipSubmodules = attrs[pb.AttrGitSkipSubmodules] == "true"
	r.FetchByCommit = attrs[pb.AttrGitFetchByCommit] == "true"
	host := ""
	if u, err := gitutil.ParseURL(r.Remote); err == nil {
		host = u.Host
	}
	var err error
	if r.Token, err = j.gitSecret(ctx, attrs[pb.AttrAuthTokenSecret], host); err != nil {
		return r, err
	}
	if r.AuthHeader, err = j.gitSecret(ctx, attrs[pb.AttrAuthHeaderSecret], host); err != nil {
		return r, err
	}
	if agent := attrs[pb.AttrMountSSHSock]; agent != "" && j.req.Session != nil {
		r.Agent = func(ctx context.Context) (net.Conn, error) { return j.req.Session.SSH(ctx, agent) }
	}
	return r, nil
}

// gitSecret is the secret for one host, or for all.
func (j *job) gitSecret(ctx context.Context, id, host string) (string, error) {
	if id == "" {
		return "", nil
	}
	if host != "" {
		if v, err := j.secret(ctx, id+"."+host); err != nil || v != "" {
			return v, err
		}
	}
	return j.secret(ctx, id)
}

// redact takes credentials out of a URL.
func redact(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	authority, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	return scheme + "://" + authority + "/" + path
}
