package buildkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/sys"
)

// askClient runs a build that asks its client's side.
func askClient(t *testing.T, opt client.SolveOpt, ask func(context.Context, build.Session) error) {
	t.Helper()
	f := &fakeBuilder{build: func(ctx context.Context, r build.Request, _ build.Status) (*build.Response, error) {
		return &build.Response{}, ask(ctx, r.Session)
	}}
	w := newWorld(t, f)
	w.solve(opt)
}

func (w *world) solve(opt client.SolveOpt) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	opt.Frontend = "dockerfile.v0"
	if opt.FrontendAttrs == nil {
		opt.FrontendAttrs = map[string]string{}
	}
	if _, err := w.client.Solve(ctx, nil, opt, nil); err != nil {
		w.t.Fatal(err)
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func mount(t *testing.T, dir string) map[string]fsutil.FS {
	t.Helper()
	f, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]fsutil.FS{"context": f}
}

// read is a file's content, or the reason why there is none.
func read(dir, name string) string {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "none"
	}
	return string(raw)
}

func TestLocalIsBroughtUpToDate(t *testing.T) {
	src := t.TempDir()
	write(t, src, map[string]string{"a": "1", "gone": "x", "sub/ünï": "u", "node_modules/big": "big"})
	var got *build.LocalDir
	var seen map[string]string
	opts := build.LocalOptions{Exclude: []string{"node_modules", "ÿ"}}
	f := &fakeBuilder{build: func(ctx context.Context, r build.Request, _ build.Status) (*build.Response, error) {
		d, err := r.Session.Local(ctx, "context", opts)
		if err != nil {
			return nil, err
		}
		got, seen = d, map[string]string{}
		for _, name := range []string{"a", "gone", "sub/ünï", "node_modules/big"} {
			seen[name] = read(d.Dir, name)
		}
		d.Release()
		return &build.Response{}, nil
	}}
	w := newWorld(t, f)
	w.solve(client.SolveOpt{LocalMounts: mount(t, src), SharedKey: "project"})
	first := *got
	if seen["a"] != "1" || seen["gone"] != "x" || seen["sub/ünï"] != "u" || seen["node_modules/big"] != "none" {
		t.Fatalf("received %v", seen)
	}
	before, err := os.Stat(filepath.Join(first.Dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(src, "gone")); err != nil {
		t.Fatal(err)
	}
	write(t, src, map[string]string{"sub/ünï": "changed"})
	w.solve(client.SolveOpt{LocalMounts: mount(t, src), SharedKey: "project"})
	if got.Dir != first.Dir || got.Key != first.Key || got.InPlace {
		t.Errorf("the second build of a directory has %+v, the first had %+v", got, first)
	}
	if seen["gone"] != "none" || seen["sub/ünï"] != "changed" {
		t.Errorf("received %v", seen)
	}
	after, err := os.Stat(filepath.Join(first.Dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("a file that had not changed was sent again")
	}
	if w.server.Usage() == 0 {
		t.Error("the kept files do not count")
	}
	if freed, err := w.server.Prune(t.Context()); err != nil || freed == 0 {
		t.Errorf("prune: %d, %v", freed, err)
	}
	if w.server.Usage() != 0 {
		t.Error("prune has left files")
	}
}

func TestLocalOfTwoBuildsAtOnce(t *testing.T) {
	src := t.TempDir()
	write(t, src, map[string]string{"a": "1"})
	var dirs []string
	askClient(t, client.SolveOpt{LocalMounts: mount(t, src), SharedKey: "project"}, func(ctx context.Context, s build.Session) error {
		a, err := s.Local(ctx, "context", build.LocalOptions{})
		if err != nil {
			return err
		}
		same, err := s.Local(ctx, "context", build.LocalOptions{})
		if err != nil {
			return err
		}
		other, err := s.Local(ctx, "context", build.LocalOptions{Include: []string{"b"}})
		if err != nil {
			return err
		}
		dirs = []string{a.Dir, same.Dir, other.Dir}
		for _, d := range []*build.LocalDir{a, same, other} {
			d.Release()
		}
		_, err = s.Local(ctx, "nonexistent", build.LocalOptions{})
		if !errdefs.IsNotFound(err) {
			t.Errorf("a directory that the client does not give: %v", err)
		}
		return nil
	})
	if dirs[0] != dirs[1] || dirs[0] == dirs[2] {
		t.Errorf("directories %v: the same receipt is to be shared, another one is not", dirs)
	}
}

func TestUnnamedDirectoriesDoNotStay(t *testing.T) {
	src := t.TempDir()
	write(t, src, map[string]string{"a": "1"})
	var dir string
	askClient(t, client.SolveOpt{LocalMounts: mount(t, src)}, func(ctx context.Context, s build.Session) error {
		d, err := s.Local(ctx, "context", build.LocalOptions{})
		if err != nil {
			return err
		}
		dir = d.Dir
		if read(d.Dir, "a") != "1" {
			t.Error("not received")
		}
		d.Release()
		return nil
	})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// keeper gives credentials for one registry.
type authServer struct{ auth.UnimplementedAuthServer }

func (a authServer) Register(s *grpc.Server) { auth.RegisterAuthServer(s, a) }

func (authServer) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	switch r.Host {
	case "private":
		return &auth.CredentialsResponse{Username: "u", Secret: "p"}, nil
	case "token":
		return &auth.CredentialsResponse{Secret: "refresh"}, nil
	}
	return &auth.CredentialsResponse{}, nil
}

func TestSecretsAndCredentials(t *testing.T) {
	attach := []session.Attachable{secretsprovider.FromMap(map[string][]byte{"npm": []byte("s3cret")}), authServer{}}
	askClient(t, client.SolveOpt{Session: attach}, func(ctx context.Context, s build.Session) error {
		if v, err := s.Secret(ctx, "npm"); err != nil || string(v) != "s3cret" {
			t.Errorf("secret %q, %v", v, err)
		}
		if _, err := s.Secret(ctx, "other"); !errdefs.IsNotFound(err) {
			t.Errorf("a secret that is not given: %v", err)
		}
		if a, err := s.Credentials(ctx, "private"); err != nil || a.Username != "u" || a.Password != "p" {
			t.Errorf("credentials %+v, %v", a, err)
		}
		if a, err := s.Credentials(ctx, "token"); err != nil || a.IdentityToken != "refresh" || a.Username != "" {
			t.Errorf("credentials %+v, %v", a, err)
		}
		if a, err := s.Credentials(ctx, "public"); err != nil || a != nil {
			t.Errorf("credentials %+v, %v", a, err)
		}
		if _, err := s.SSH(ctx, "default"); !errdefs.IsNotFound(err) {
			t.Errorf("an agent that is not forwarded: %v", err)
		}
		return nil
	})
}

func TestSSHAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "kist-agent-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sock := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // Answers every message with "no keys".
				defer conn.Close()
				head := make([]byte, 5)
				for {
					if _, err := io.ReadFull(conn, head); err != nil {
						return
					}
					_, _ = conn.Write([]byte{0, 0, 0, 5, 12, 0, 0, 0, 0})
				}
			}()
		}
	}()
	provider, err := sshprovider.NewSSHAgentProvider([]sshprovider.AgentConfig{{ID: "default", Paths: []string{sock}}})
	if err != nil {
		t.Fatal(err)
	}
	askClient(t, client.SolveOpt{Session: []session.Attachable{provider}}, func(ctx context.Context, s build.Session) error {
		conn, err := s.SSH(ctx, "")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{0, 0, 0, 1, 11}); err != nil { // List the keys.
			return err
		}
		answer := make([]byte, 9)
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		if !bytes.Equal(answer, []byte{0, 0, 0, 5, 12, 0, 0, 0, 0}) {
			t.Errorf("the agent answers %v", answer)
		}
		return nil
	})
}

func TestUploadedContext(t *testing.T) {
	up := uploadprovider.New()
	content := bytes.Repeat([]byte("archive "), 1<<16)
	url := up.Add(io.NopCloser(bytes.NewReader(content)))
	askClient(t, client.SolveOpt{Session: []session.Attachable{up}}, func(ctx context.Context, s build.Session) error {
		r, err := s.Upload(ctx, url)
		if err != nil {
			return err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if !bytes.Equal(got, content) {
			t.Errorf("%d of %d bytes", len(got), len(content))
		}
		return err
	})
}

// written is what an export's file got.
type written struct {
	bytes.Buffer
	closed bool
}

func (w *written) Close() error {
	w.closed = true
	return nil
}

func TestOutputs(t *testing.T) {
	file, dest, tree := new(written), t.TempDir(), t.TempDir()
	write(t, tree, map[string]string{"bin/app": "program", "z": "last", "m": "from the tree"})
	opt := client.SolveOpt{Exports: []client.ExportEntry{
		{Type: "tar", Output: func(map[string]string) (io.WriteCloser, error) { return file, nil }},
		{Type: "local", OutputDir: dest},
	}}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // More than one message.
	askClient(t, opt, func(ctx context.Context, s build.Session) error {
		w, err := s.Output(ctx, 0, nil)
		if err != nil {
			return err
		}
		if _, err := w.Write(big); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		root, err := sys.OpenRoot(tree)
		if err != nil {
			return err
		}
		defer root.Close()
		return s.OutputTrees(ctx, 1, []build.Tree{
			{Prefix: "linux_amd64", Root: root, Files: map[string][]byte{"provenance.json": []byte("{}"), "a.json": []byte("first"), "m": []byte("instead")}},
			{Prefix: "linux_arm64", Files: map[string][]byte{"only": []byte("file")}},
		})
	})
	if !bytes.Equal(file.Bytes(), big) || !file.closed {
		t.Errorf("the file has %d of %d bytes, closed %v", file.Len(), len(big), file.closed)
	}
	for name, want := range map[string]string{
		"linux_amd64/bin/app": "program", "linux_amd64/z": "last", "linux_amd64/provenance.json": "{}", "linux_amd64/a.json": "first",
		"linux_amd64/m": "instead", "linux_arm64/only": "file",
	} {
		if got := read(dest, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
