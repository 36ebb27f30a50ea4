package runstep

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// bind is a mount of layers.
func bind(dest, selector string, output int64, readonly bool, layers ...digest.Digest) Mount {
	return Mount{
		Mount:  &pb.Mount{Dest: dest, Selector: selector, Output: output, Readonly: readonly},
		Source: Source{Layers: layers},
	}
}

const noOutput = int64(-1)

func TestBindFromStages(t *testing.T) {
	w := newWorld(t)
	stage := w.layer("etc/conf", "of the stage", "app/bin/tool", "tool")
	w.want(w.request("cd /mnt; ls -d * */* */*/*; touch /mnt/x 2>/dev/null || echo read-only",
		bind("/mnt", "", noOutput, true, stage)), "app\napp/bin\napp/bin/tool\netc\netc/conf\nread-only\n")
	w.want(w.request("cat /opt/new/place; cat /sel/bin/tool",
		bind("/opt/new/place", "etc/conf", noOutput, true, stage), bind("/sel", "/app", noOutput, true, stage)), "of the stagetool")
	made := w.want(w.request("echo changed >/mnt/etc/conf; cat /mnt/etc/conf; echo here >/here", bind("/mnt", "", noOutput, false, stage)), "changed\n")
	if got := w.files(made[0]); got != "here" {
		t.Error("in the layer:", got)
	}
	w.want(w.request("cat /mnt/etc/conf", bind("/mnt", "", noOutput, true, stage)), "of the stage")
	_, _, err := w.run(w.request("true", bind("/mnt", "nosuch", noOutput, true, stage)))
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "nosuch") {
		t.Error(err)
	}
	w.leftovers()
}

func TestOutputs(t *testing.T) {
	w := newWorld(t)
	q := w.request("echo a >/out/a; echo b >/mnt/b; echo c >/c", bind("/out", "", 2, false), bind("/mnt", "", 1, false, w.layer("x", "x")))
	made := w.want(q, "")
	if len(made) != 3 || w.files(made[0]) != "c" || w.files(made[1]) != "b" || w.files(made[2]) != "a" {
		t.Error(made)
	}
	q = w.request("touch /x 2>/dev/null || echo read-only; cat /new/place/x", bind("/new/place", "", noOutput, true, w.layer("x", "x\n")))
	q.Mounts[0].Readonly = true
	if made := w.want(q, "read-only\nx\n"); len(made) != 1 || made[0].DiffID != "" {
		t.Error(made)
	}
	w.want(w.request("find /empty", bind("/empty", "", noOutput, true)), "/empty\n")
	w.leftovers()
}

func TestMountPointsDoNotStay(t *testing.T) {
	w := newWorld(t)
	l := w.layer("f", "file")
	for _, c := range []struct{ dest, script, left string }{
		{"/a/b/c", "true", ""},
		{"/a/b/c", "echo x >/a/own", "a/ a/own"},
		{"/data/below", "true", ""},
		{"/data/below", "mkdir /data/own", "data/ data/own/"},
		{"/link/x", "true", ""}, // which is data/deep, a link to nothing
		{"/tmp/x/y", "echo 1 >/tmp/z", "tmp/ tmp/z"},
		{"/data/seed", "true", ""}, // a file is there
	} {
		m := bind(c.dest, "", noOutput, true, l)
		if c.dest == "/data/seed" {
			m.Selector = "f"
		}
		made := w.want(w.request(c.script, m), "")
		if got := w.files(made[0]); got != c.left {
			t.Errorf("mounted on %s: %q is left, want %q", c.dest, got, c.left)
		}
	}
	w.leftovers()
}

func TestTmpfs(t *testing.T) {
	w := newWorld(t)
	made := w.want(w.request("dd if=/dev/zero of=/scratch/f bs=1k count=100 2>/dev/null || echo full; mount | grep -c 'on /scratch .*size=64k'",
		Mount{Mount: &pb.Mount{Dest: "/scratch", MountType: pb.MountType_TMPFS, Output: noOutput, TmpfsOpt: &pb.TmpfsOpt{Size: 64 << 10}}}), "full\n1\n")
	if got := w.files(made[0]); got != "" {
		t.Error(got)
	}
	w.want(w.request("mount | grep -c 'on /dev/shm .*size=128k'",
		Mount{Mount: &pb.Mount{Dest: "/dev/shm", MountType: pb.MountType_TMPFS, Output: noOutput, TmpfsOpt: &pb.TmpfsOpt{Size: 128 << 10}}}), "1\n")
}

// secrets of the client.
func secrets(_ context.Context, id string) ([]byte, error) {
	if id == "token" {
		return []byte("s3cr3t-value"), nil
	}
	return nil, errdefs.ErrNotFound
}

func secretMount(dest, id string, optional bool) Mount {
	return Mount{Mount: &pb.Mount{
		Dest: dest, MountType: pb.MountType_SECRET, Output: noOutput,
		SecretOpt: &pb.SecretOpt{ID: id, Uid: 1000, Gid: 7, Mode: 0o440, Optional: optional},
	}}
}

func TestSecrets(t *testing.T) {
	w := newWorld(t)
	q := w.request("cat /run/secrets/token; stat -c ' %a %u %g' /run/secrets/token; mount | grep -c 'on /run/secrets/token type tmpfs'; echo x 2>/dev/null >/run/secrets/token || echo read-only; echo $TOKEN $NONE; sleep 0.3",
		secretMount("/run/secrets/token", "token", false), secretMount("/run/secrets/none", "none", true))
	q.Secrets = secrets
	q.Op.Secretenv = []*pb.SecretEnv{{ID: "token", Name: "TOKEN"}, {ID: "none", Name: "NONE", Optional: true}}
	done := make(chan struct{})
	var found []string
	go func() { // Looked for on disk while the step runs.
		defer close(done)
		for range 20 {
			found = append(found, w.grep("s3cr3t-value")...)
		}
	}()
	made := w.want(q, "s3cr3t-value 440 1000 7\n1\nread-only\ns3cr3t-value\n")
	<-done
	if len(found) > 0 {
		t.Error("the secret is in", found)
	}
	if got := w.files(made[0]); got != "" {
		t.Error("left in the layer:", got)
	}
	q = w.request("true", secretMount("/x", "none", false))
	q.Secrets = secrets
	if _, _, err := w.run(q); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "--secret id=none") {
		t.Error(err)
	}
	q = w.request("true")
	q.Op.Secretenv = []*pb.SecretEnv{{ID: "none", Name: "NONE"}}
	if _, _, err := w.run(q); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	w.leftovers()
}

// grep finds the files of data and exec root that hold a text.
func (w *world) grep(text string) (found []string) {
	top := filepath.Dir(filepath.Dir(w.config.Dir))
	_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what vanishes holds nothing
		}
		if raw, err := os.ReadFile(path); err == nil && strings.Contains(string(raw), text) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

func TestSSH(t *testing.T) {
	w := newWorld(t)
	agent := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", agent)
	w.ok(err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, _ := io.ReadAll(c)
				_, _ = c.Write([]byte("agent: " + string(line)))
			}()
		}
	}()
	mount := func(id string, optional bool) Mount {
		return Mount{Mount: &pb.Mount{
			Dest: "/run/agent.sock", MountType: pb.MountType_SSH, Output: noOutput,
			SSHOpt: &pb.SSHOpt{ID: id, Uid: 5, Gid: 6, Mode: 0o600, Optional: optional},
		}}
	}
	dial := func(ctx context.Context, id string) (net.Conn, error) {
		if id != "default" {
			return nil, errdefs.ErrNotFound
		}
		return new(net.Dialer).DialContext(ctx, "unix", agent)
	}
	self, err := os.Executable()
	w.ok(err)
	inPlace := func(dest, dir, name string) Mount {
		return Mount{
			Mount:  &pb.Mount{Dest: dest, Selector: name, Output: noOutput, Readonly: true},
			Source: Source{Local: &Local{Dir: dir}},
		}
	}
	mounts := []Mount{mount("", false), inPlace("/dial", filepath.Dir(self), filepath.Base(self))}
	for _, dir := range []string{"/lib", "/lib64"} { // in case that this program was linked with libraries
		if _, err := os.Stat(dir); err == nil {
			mounts = append(mounts, inPlace(dir, dir, ""))
		}
	}
	q := w.request("stat -c '%F %a %u %g' /run/agent.sock; for i in 1 2; do DIAL=/run/agent.sock SAY=\"sign $i\" /dial; done", mounts...)
	q.SSH = dial
	made := w.want(q, "socket 600 5 6\nagent: sign 1agent: sign 2")
	if got := w.files(made[0]); got != "" {
		t.Error(got)
	}
	for _, optional := range []bool{false, true} {
		q = w.request("ls /run/agent.sock 2>/dev/null || echo none", mount("other", optional))
		q.SSH = dial
		out, _, err := w.run(q)
		if optional && (err != nil || out != "none\n") || !optional && !errdefs.IsNotFound(err) {
			t.Errorf("optional %v: %q, %v", optional, out, err)
		}
	}
	w.leftovers()
}

func TestLocal(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for _, f := range []string{"main.go", "secret.env", "sub/keep", "sub/drop.log", "node_modules/a/b"} {
		w.ok(os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		w.ok(os.WriteFile(filepath.Join(dir, f), []byte(f+"\n"), 0o644))
	}
	w.ok(os.Chmod(dir, 0o755))
	mount := func(selector string, readonly bool, f treesum.Filter) Mount {
		return Mount{
			Mount:  &pb.Mount{Dest: "/src", Selector: selector, Output: noOutput, Readonly: readonly},
			Source: Source{Local: &Local{Dir: dir, Filter: f}},
		}
	}
	ignore := treesum.Filter{Exclude: []string{"*.env", "**/*.log", "node_modules"}}
	list := "cd /src; find . -type f | grep . ; "
	for _, c := range []struct {
		name, script, out string
		mount             Mount
	}{
		{"all", list + "touch x 2>/dev/null || echo ro", "./main.go\n./node_modules/a/b\n./secret.env\n./sub/drop.log\n./sub/keep\nro\n", mount("", true, treesum.Filter{})},
		{"filtered", list + "touch x 2>/dev/null || echo ro; ls", "./main.go\n./sub/keep\nro\nmain.go\nsub\n", mount("", true, ignore)},
		{"writable", "cd /src; echo 1 >main.go; mkdir node_modules; echo new >node_modules/x; cat main.go; find . -type f", "1\n./main.go\n./node_modules/x\n./sub/keep\n", mount("", false, ignore)},
		{"untouched", "cat /src/main.go; ls /src/node_modules", "main.go\na\n", mount("", false, treesum.Filter{})},
		{"part", "cat /src", "sub/keep\n", mount("sub/keep", true, ignore)},
		{"included", list, "./sub/keep\n", mount("", true, treesum.Filter{Include: []string{"sub/keep"}})},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, made, err := w.run(w.request(c.script, c.mount))
			if err != nil || sorted(out) != sorted(c.out) {
				t.Errorf("%v\n%s", err, out)
			}
			if err == nil && w.files(made[0]) != "" {
				t.Error(w.files(made[0]))
			}
		})
	}
	_, _, err := w.run(w.request("true", mount("secret.env", true, ignore)))
	if !errdefs.IsNotFound(err) {
		t.Error("what is ignored can be mounted:", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules/x")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the context was changed")
	}
	w.leftovers()
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		for j := range i {
			if lines[j] > lines[i] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return strings.Join(lines, "\n")
}

func TestLocalBelongsToRoot(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for _, f := range []string{".", "mine", "sub", "sub/mine", "other"} {
		if strings.HasSuffix(f, "sub") {
			w.ok(os.Mkdir(filepath.Join(dir, f), 0o755))
		} else if f != "." {
			w.ok(os.WriteFile(filepath.Join(dir, f), nil, 0o644))
		}
		w.ok(os.Chown(filepath.Join(dir, f), 1000, 1001))
	}
	w.ok(os.Chown(filepath.Join(dir, "other"), 7, 1001))
	if w.runner.placed {
		t.Skip("this kernel copies no detached mounts")
	}
	if r, err := sys.OpenRoot(dir); err == nil {
		if _, err := sys.ShownAsRoots(r, 1000, 1001); err != nil {
			t.Skip("the file system of the test's directory has no idmapped mounts:", err)
		}
		w.ok(r.Close())
	}
	script := "cd /src; stat -c '%n %u %g' . mine sub sub/mine other"
	for _, c := range []struct {
		name     string
		readonly bool
		exclude  []string
	}{{"in place", true, nil}, {"covered", true, []string{"sub/mine2", "nothing", "hidden"}}, {"writable", false, nil}} {
		w.ok(os.WriteFile(filepath.Join(dir, "hidden"), nil, 0o600))
		m := Mount{
			Mount:  &pb.Mount{Dest: "/src", Output: noOutput, Readonly: c.readonly},
			Source: Source{Local: &Local{Dir: dir, Filter: treesum.Filter{Exclude: c.exclude}}},
		}
		more, out := "", ". 0 0\nmine 0 0\nsub 0 0\nsub/mine 0 0\nother 7 0\n"
		if !c.readonly {
			more = "; echo x >mine; touch sub/new; stat -c '%n %u %g' mine sub/new"
			out += "mine 0 0\nsub/new 0 0\n"
		}
		t.Run(c.name, func(t *testing.T) { w.want(w.request(script+more, m), out) })
	}
	w.leftovers()
}

// Kernels before 6.15 copy no mounts that are attached nowhere: there they get a place in the step's directory.
func TestMountsWithPlaces(t *testing.T) {
	w := newWorld(t)
	w.runner.placed = true
	dir := t.TempDir()
	w.ok(os.WriteFile(filepath.Join(dir, "f"), []byte("context\n"), 0o644))
	w.ok(os.WriteFile(filepath.Join(dir, "hidden"), nil, 0o644))
	q := w.request("cat /stage/f /src/f /s; ls /src; echo x >/out/made; test -e /src/hidden || echo hidden",
		bind("/stage", "", noOutput, true, w.layer("f", "stage\n")), bind("/out", "", 1, false), secretMount("/s", "token", false),
		Mount{Mount: &pb.Mount{Dest: "/src", Output: noOutput}, Source: Source{Local: &Local{Dir: dir, Filter: treesum.Filter{Exclude: []string{"hidden"}}}}})
	q.Secrets = secrets
	made := w.want(q, "stage\ncontext\ns3cr3t-valuef\nhidden\n")
	if w.files(made[0]) != "" || w.files(made[1]) != "made" {
		t.Error(w.files(made[0]), w.files(made[1]))
	}
	w.leftovers()
}
