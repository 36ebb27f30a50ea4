package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Repository is a tree in a git repository.
type Repository struct {
	// Remote is its URL: https, http, git or ssh, or user@host:path.
	Remote string
	// Ref is a branch, a tag, a full name (refs/...) or a whole commit id; empty means what the remote's HEAD is.
	Ref string
	// Checksum, when set, is how the commit's (or the tag's) id must begin.
	Checksum string
	// Subdir is the part of the tree that is wanted.
	Subdir string
	// KeepGitDir leaves .git in the tree.
	KeepGitDir     bool
	SkipSubmodules bool
	// FetchByCommit fetches Checksum, which is a whole commit id then, without a look at Ref.
	FetchByCommit bool

	// Token and AuthHeader (the value of an Authorization header) are for http and https.
	Token, AuthHeader string
	// KnownHosts are lines of a known_hosts file; without any, ssh believes every host.
	KnownHosts string
	// Agent connects to an SSH agent; may be nil.
	Agent func(ctx context.Context) (net.Conn, error)
}

// Commit is what a ref means now.
type Commit struct {
	// ID of the commit.
	ID string
	// Tag is the id of the tag object that names it; empty if there is none.
	Tag string
	// Ref is the ref's full name; of a commit that was named by its id, that id.
	Ref string
}

var wholeID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// scpLike is user@host:path.
var scpLike = regexp.MustCompile(`^[A-Za-z0-9_.+-]+@[A-Za-z0-9.-]+:[^\s-][^\s]*$`)

// check refuses what git might take for something else than a URL and a ref.
func (r *Repository) check() error {
	scheme, rest, isURL := strings.Cut(r.Remote, "://")
	known := isURL && (scheme == "https" || scheme == "http" || scheme == "git" || scheme == "ssh") && rest != "" && rest[0] != '-'
	if !known && !scpLike.MatchString(r.Remote) || hasControl(r.Remote) || strings.Contains(r.Remote, "::") {
		return fmt.Errorf("git repository %q: want an https, http, git or ssh URL, or user@host:path: %w", r.Remote, errdefs.ErrInvalidArgument)
	}
	if strings.HasPrefix(r.Ref, "-") || hasControl(r.Ref) || strings.ContainsAny(r.Ref, " ~^:?*[\\") || strings.Contains(r.Ref, "..") {
		return fmt.Errorf("git ref %q: %w", r.Ref, errdefs.ErrInvalidArgument)
	}
	if strings.Trim(r.Checksum, "0123456789abcdef") != "" {
		return fmt.Errorf("git checksum %q is no commit id: %w", r.Checksum, errdefs.ErrInvalidArgument)
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// ResolveCommit finds out which commit the ref is now.
func (s *Store) ResolveCommit(ctx context.Context, r Repository) (*Commit, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.FetchByCommit && wholeID.MatchString(r.Checksum) {
		return &Commit{ID: r.Checksum, Ref: r.Checksum}, nil
	}
	if wholeID.MatchString(r.Ref) {
		c := &Commit{ID: r.Ref, Ref: r.Ref}
		return c, r.verify(c)
	}
	g, err := s.newGit(ctx, &r)
	if err != nil {
		return nil, err
	}
	defer g.close()
	args := []string{"ls-remote", "--symref", "--", r.Remote, "HEAD"}
	if r.Ref != "" && r.Ref != "HEAD" {
		args = []string{"ls-remote", "--", r.Remote, r.Ref, r.Ref + "^{}"}
	}
	out, err := g.run(ctx, "", args...)
	if err != nil {
		return nil, fmt.Errorf("look for %s in git repository %s: %w", orHead(r.Ref), redact(r.Remote), err)
	}
	c := pick(string(out), r.Ref)
	if c == nil {
		return nil, r.unknown()
	}
	return c, r.verify(c)
}

func orHead(ref string) string {
	if ref == "" {
		return "HEAD"
	}
	return ref
}

func (r *Repository) unknown() error {
	f := &fault.Error{
		Code: "git-ref-missing", What: "git repository " + redact(r.Remote) + " has no " + orHead(r.Ref),
		Cause: "the server names no branch and no tag of that name", Class: errdefs.ErrNotFound,
	}
	if len(r.Ref) >= 4 && strings.Trim(r.Ref, "0123456789abcdef") == "" {
		f.Try = "if it is a commit, write its whole id of 40 digits"
	}
	return f
}

// verify compares the commit with the wished beginning of its id.
func (r *Repository) verify(c *Commit) error {
	if r.Checksum == "" || strings.HasPrefix(c.ID, r.Checksum) || c.Tag != "" && strings.HasPrefix(c.Tag, r.Checksum) {
		return nil
	}
	return &fault.Error{
		Code: "checksum-mismatch", What: "cannot use git repository " + redact(r.Remote),
		Cause: fmt.Sprintf("expected checksum to match %s, got %s", r.Checksum, c.ID),
		Try:   "if " + orHead(r.Ref) + " was moved on purpose, put its new id into the Dockerfile", Class: errdefs.ErrInvalidArgument,
	}
}

// pick finds the ref in the answer of ls-remote. A branch goes before a tag, as git checkout has it.
func pick(answer, ref string) *Commit {
	ids := map[string]string{}
	head := ""
	for line := range strings.Lines(answer) {
		id, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue
		}
		if target, symbolic := strings.CutPrefix(id, "ref: "); symbolic {
			if name == "HEAD" {
				head = target
			}
			continue
		}
		if wholeID.MatchString(id) {
			ids[name] = id
		}
	}
	if ref == "" || ref == "HEAD" {
		if head == "" {
			head = "HEAD"
		}
		if id := ids["HEAD"]; id != "" {
			return &Commit{ID: id, Ref: head}
		}
		return nil
	}
	short := strings.TrimPrefix(ref, "refs/")
	for _, name := range []string{
		ref, "refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"), "refs/" + short,
	} {
		id, ok := ids[name]
		if !ok || !strings.HasPrefix(name, "refs/") {
			continue
		}
		c := &Commit{ID: id, Ref: name}
		if peeled := ids[name+"^{}"]; peeled != "" {
			c.ID, c.Tag = peeled, id
		}
		return c
	}
	return nil
}

// PutCommit puts the tree of a commit into the directory dir, which is empty.
func (s *Store) PutCommit(ctx context.Context, r Repository, c *Commit, dir string) error {
	if err := r.check(); err != nil {
		return err
	}
	key := "git/" + nameOf(r.Remote)
	release, err := s.hold(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	g, err := s.newGit(ctx, &r)
	if err != nil {
		return err
	}
	defer g.close()
	mirror := filepath.Join(s.config.Dir, key)
	if err := g.fetch(ctx, mirror, &r, c); err != nil {
		return fmt.Errorf("fetch %s from git repository %s: %w", c.ID, redact(r.Remote), err)
	}
	touch(mirror)
	work := filepath.Join(g.dir, "work")
	if err := g.checkout(ctx, mirror, work, &r, c); err != nil {
		return fmt.Errorf("check out %s of git repository %s: %w", c.ID, redact(r.Remote), err)
	}
	if err := g.deliver(ctx, work, &r, c, dir); err != nil {
		if errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		return fmt.Errorf("put git repository %s: %w", redact(r.Remote), err)
	}
	return nil
}

// redact takes a password out of a URL.
func redact(remote string) string {
	scheme, rest, ok := strings.Cut(remote, "://")
	if !ok {
		return remote
	}
	host, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		user, _, _ := strings.Cut(host[:at], ":")
		host = user + ":xxxxx" + host[at:]
	}
	return scheme + "://" + host + "/" + path
}
