package fetch

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// upstream is a git server with repositories on disk.
type upstream struct {
	*testing.T
	dir  string
	url  string
	auth atomic.Pointer[string] // what clients must say; nil: nothing
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git")
	}
	out, err := exec.Command(program, "--exec-path").Output()
	ok(t, err)
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("needs git-http-backend")
	}
	u := &upstream{T: t, dir: t.TempDir()}
	h := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + u.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if auth := u.auth.Load(); auth != nil && r.Header.Get("Authorization") != *auth {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	u.url = srv.URL
	return u
}

// git runs git in a repository of the server.
func (u *upstream) git(repo string, args ...string) string {
	u.Helper()
	c := exec.Command("git", args...)
	c.Dir = filepath.Join(u.dir, repo)
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + u.dir, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_AUTHOR_DATE=1000000000 +0000", "GIT_COMMITTER_DATE=1000000000 +0000", "GIT_CONFIG_NOSYSTEM=1", "GIT_ALLOW_PROTOCOL=http:file",
	}
	out, err := c.CombinedOutput()
	if err != nil {
		u.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files and commits them; it returns the commit's id.
func (u *upstream) commit(repo string, files ...string) string {
	u.Helper()
	dir := filepath.Join(u.dir, repo)
	if _, err := os.Stat(dir); err != nil {
		ok(u.T, os.Mkdir(dir, 0o755))
		u.git(repo, "init", "-q", "-b", "main")
	}
	for i := 0; i < len(files); i += 2 {
		file := filepath.Join(dir, files[i])
		ok(u.T, os.MkdirAll(filepath.Dir(file), 0o755))
		ok(u.T, os.WriteFile(file, []byte(files[i+1]), 0o644))
	}
	u.git(repo, "add", "-A")
	u.git(repo, "commit", "-q", "-m", "x")
	return u.git(repo, "rev-parse", "HEAD")
}

// list tells what is in a directory.
func list(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	ok(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if d.Name() == ".git" {
			names = append(names, rel)
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.IsDir() {
			names = append(names, rel)
		}
		return nil
	}))
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestGit(t *testing.T) {
	u := newUpstream(t)
	first := u.commit("r", "a", "1", "sub/b", "2", "sub/deep/c", "3")
	u.git("r", "tag", "light")
	u.git("r", "tag", "-a", "-m", "x", "v1")
	tag := u.git("r", "rev-parse", "v1")
	ok(t, os.Chmod(filepath.Join(u.dir, "r/a"), 0o700))
	second := u.commit("r", "a", "changed", "new", "x")
	u.git("r", "branch", "side", first)
	u.git("r", "branch", "v1", second) // a branch that is called like the tag
	remote := u.url + "/r/.git"
	s := open(t, Config{})
	for _, c := range []struct {
		name   string
		r      Repository
		want   Commit
		listed string
	}{
		{"default", Repository{}, Commit{ID: second, Ref: "refs/heads/main"}, "a new sub/b sub/deep/c"},
		{"branch", Repository{Ref: "side"}, Commit{ID: first, Ref: "refs/heads/side"}, "a sub/b sub/deep/c"},
		{"tag", Repository{Ref: "light"}, Commit{ID: first, Ref: "refs/tags/light"}, "a sub/b sub/deep/c"},
		{"branch before tag", Repository{Ref: "v1"}, Commit{ID: second, Ref: "refs/heads/v1"}, "a new sub/b sub/deep/c"},
		{"annotated tag", Repository{Ref: "refs/tags/v1"}, Commit{ID: first, Ref: "refs/tags/v1", Tag: tag}, "a sub/b sub/deep/c"},
		{"commit", Repository{Ref: first}, Commit{ID: first, Ref: first}, "a sub/b sub/deep/c"},
		{"checksum", Repository{Ref: "side", Checksum: first[:10]}, Commit{ID: first, Ref: "refs/heads/side"}, "a sub/b sub/deep/c"},
		{"checksum of the tag", Repository{Ref: "refs/tags/v1", Checksum: tag}, Commit{ID: first, Ref: "refs/tags/v1", Tag: tag}, "a sub/b sub/deep/c"},
		{"subdir", Repository{Subdir: "sub"}, Commit{ID: second, Ref: "refs/heads/main"}, "b deep/c"},
		{"git dir", Repository{Ref: "side", KeepGitDir: true}, Commit{ID: first, Ref: "refs/heads/side"}, ".git a sub/b sub/deep/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.Remote = remote
			got, err := s.ResolveCommit(t.Context(), c.r)
			ok(t, err)
			if *got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			dir := t.TempDir()
			ok(t, s.PutCommit(t.Context(), c.r, got, dir))
			if l := list(t, dir); l != c.listed {
				t.Errorf("%q, want %q", l, c.listed)
			}
			if fi, err := os.Stat(filepath.Join(dir, strings.Fields(strings.TrimPrefix(c.listed, ".git "))[0])); err != nil || !fi.ModTime().Equal(time.Unix(1e9, 0)) {
				t.Error(fi.ModTime(), err)
			}
			if c.r.KeepGitDir {
				cmd := exec.Command("git", "-c", "safe.directory=*", "log", "--format=%H")
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != first {
					t.Errorf("%s, %v", out, err)
				}
			}
		})
	}
	if left, _ := os.ReadDir(filepath.Join(s.config.Dir, "t")); len(left) > 0 {
		t.Error("left:", left)
	}
}

func TestGitRefused(t *testing.T) {
	u := newUpstream(t)
	id := u.commit("r", "a", "1")
	remote := u.url + "/r/.git"
	s := open(t, Config{})
	for _, c := range []struct {
		r  Repository
		is func(error) bool
	}{
		{Repository{Remote: remote, Ref: "nosuch"}, errdefs.IsNotFound},
		{Repository{Remote: remote, Checksum: "0000"}, errdefs.IsInvalidArgument},
		{Repository{Remote: remote, Checksum: "xyz"}, errdefs.IsInvalidArgument},
		{Repository{Remote: "ext::sh -c id", Ref: "x"}, errdefs.IsInvalidArgument},
		{Repository{Remote: "file://" + u.dir + "/r"}, errdefs.IsInvalidArgument},
		{Repository{Remote: u.dir + "/r"}, errdefs.IsInvalidArgument},
		{Repository{Remote: "--upload-pack=id"}, errdefs.IsInvalidArgument},
		{Repository{Remote: "ssh://-oProxyCommand=id/x"}, errdefs.IsInvalidArgument},
		{Repository{Remote: "git@host:-x"}, errdefs.IsInvalidArgument},
		{Repository{Remote: remote, Ref: "--exec=id"}, errdefs.IsInvalidArgument},
		{Repository{Remote: remote, Ref: "a b"}, errdefs.IsInvalidArgument},
		{Repository{Remote: u.url + "/nosuch"}, errdefs.IsUnavailable},
	} {
		if _, err := s.ResolveCommit(t.Context(), c.r); !c.is(err) {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
	r := Repository{Remote: remote, Subdir: "nosuch"}
	if err := s.PutCommit(t.Context(), r, &Commit{ID: id, Ref: "refs/heads/main"}, t.TempDir()); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	gone := strings.Repeat("0", 39) + "1"
	if err := s.PutCommit(t.Context(), Repository{Remote: remote, Ref: gone}, &Commit{ID: gone, Ref: gone}, t.TempDir()); err == nil {
		t.Error("got a commit that is not there")
	}
}

func TestGitHostileTree(t *testing.T) {
	u := newUpstream(t)
	u.commit("r", "f", "1", ".gitattributes", "* filter=evil")
	ok(t, os.Symlink("/etc", filepath.Join(u.dir, "r/out")))
	id := u.commit("r")
	s := open(t, Config{})
	r := Repository{Remote: u.url + "/r/.git", Subdir: "out"}
	if err := s.PutCommit(t.Context(), r, &Commit{ID: id, Ref: "refs/heads/main"}, t.TempDir()); !errdefs.IsNotFound(err) {
		t.Error("a link led out:", err)
	}
}

func TestGitSubmodulesAndAuth(t *testing.T) {
	u := newUpstream(t)
	u.commit("lib", "code", "lib")
	u.commit("r", "main", "1")
	u.git("r", "submodule", "add", "-q", u.url+"/lib/.git", "vendor/lib")
	u.git("r", "commit", "-q", "-m", "with submodule")
	u.auth.Store(new("Bearer tok"))
	s := open(t, Config{})
	r := Repository{Remote: u.url + "/r/.git", AuthHeader: "Bearer tok"}
	c, err := s.ResolveCommit(t.Context(), r)
	ok(t, err)
	dir := t.TempDir()
	ok(t, s.PutCommit(t.Context(), r, c, dir))
	if l := list(t, dir); l != ".gitmodules main vendor/lib/code" {
		t.Error(l)
	}
	r.SkipSubmodules = true
	dir = t.TempDir()
	ok(t, s.PutCommit(t.Context(), r, c, dir))
	if l := list(t, dir); l != ".gitmodules main" {
		t.Error(l)
	}
	r.AuthHeader = "Bearer other"
	if _, err := s.ResolveCommit(t.Context(), r); err == nil || strings.Contains(err.Error(), "other") {
		t.Error(err)
	}
	r.AuthHeader, r.Token = "", "secret"
	u.auth.Store(new("Basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0"))
	_, err = s.ResolveCommit(t.Context(), r)
	ok(t, err)
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:pass@host/x": "https://user:xxxxx@host/x", "https://host/x": "https://host/x", "git@host:x": "git@host:x",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
