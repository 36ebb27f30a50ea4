package bench

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// builders are all that can build, each with the images that the measurements stand on.
type builders struct {
	t    *testing.T
	kist *program
	list []*program
	name []string
	dir  string // of contexts
}

func newBuilders(t *testing.T, quick bool, images ...testbed.Recipe) *builders {
	t.Helper()
	b := &builders{t: t, kist: kist(t)}
	b.dir = b.kist.host.Dir
	b.add("kist build", b.kist, nil, images)
	d, err := docker(t)
	if d != nil {
		d.env = append(d.env, "DOCKER_BUILDKIT=1")
	}
	b.add("docker build (20.10, BuildKit)", d, err, images)
	if quick { // What takes buildah a second; the rest takes it minutes.
		a, err := buildah(t)
		b.add("buildah bud", a, err, images)
	}
	return b
}

func (b *builders) add(name string, p *program, err error, images []testbed.Recipe) {
	b.t.Helper()
	for _, r := range images {
		if err == nil && strings.HasPrefix(name, "buildah") {
			err = p.do("pull", "-q", "docker-archive:"+r.MustArchive(b.t))
		} else if err == nil {
			err = loaded(b.t, p, r)
		}
	}
	if err != nil {
		b.t.Logf("%s takes no part: %v", name, err)
		return
	}
	b.list, b.name = append(b.list, p), append(b.name, name)
}

// buildah has no daemon; in these hosts it can isolate by chroot only.
func buildah(t *testing.T) (*program, error) {
	t.Helper()
	path, err := exec.LookPath("buildah")
	if err != nil {
		return nil, fmt.Errorf("not installed")
	}
	h := testbed.NewHost(t)
	return &program{t: t, host: h, path: path, args: []string{
		"--root", filepath.Join(h.Dir, "buildah"), "--runroot", filepath.Join(h.Dir, "buildah-run"),
	}}, nil
}

// rows are one build by everybody.
func (b *builders) rows(context string, flags ...string) []*row {
	var rows []*row
	for i, p := range b.list {
		args := append([]string{"build", "-q", "-t", "bench"}, flags...)
		if strings.HasPrefix(b.name[i], "buildah") {
			args = append([]string{"bud", "-q", "--isolation", "chroot", "--pull-never", "--layers", "-t", "bench"}, flags...)
		}
		rows = append(rows, &row{name: b.name[i], run: p.runner(append(args, context)...)})
	}
	return rows
}

// buildx is the build by Docker through its buildx plug-in, where that was built.
func (b *builders) buildx(context string, flags ...string) []*row {
	for i, p := range b.list {
		if strings.HasPrefix(b.name[i], "docker") && testbed.Tool("docker-buildx") != "" {
			args := append([]string{"buildx", "build", "-q", "-t", "bench"}, flags...)
			return []*row{{name: "docker buildx build", run: p.runner(append(args, context)...)}}
		}
	}
	return nil
}

// context makes a directory with a Dockerfile.
func (b *builders) context(name, dockerfile string) string {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// fill writes n files of size bytes, each with its own content.
func (b *builders) fill(dir string, n, size int) {
	b.t.Helper()
	raw := make([]byte, size)
	if _, err := rand.Read(raw); err != nil {
		b.t.Fatal(err)
	}
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint(i/1000), fmt.Sprint(i%1000/50))
		if i%50 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				b.t.Fatal(err)
			}
		}
		binary.LittleEndian.PutUint64(raw, uint64(i))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), raw, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// memory tells the highest use of memory of kist's daemon so far.
func (b *builders) memory() {
	b.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.kist.pid))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if peak, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			b.t.Logf("peak RSS of kistd: %s", strings.TrimSpace(peak))
		}
	}
}

func steps(n int, step string) string {
	var s strings.Builder
	s.WriteString("FROM kist.test/busybox\n")
	for i := range n {
		fmt.Fprintf(&s, step+"\n", i)
	}
	return s.String()
}

func TestBuildSteps(t *testing.T) {
	want(t, "build")
	b := newBuilders(t, true, testbed.Busybox)
	cached := b.context("sixty", steps(59, "RUN echo %d"))
	rows := append(b.rows(cached), b.buildx(cached)...)
	race(5, rows)
	report(t, "build: nothing changed, 60 steps, whole command", rows)

	rows = b.rows(b.context("thirty", steps(30, "RUN true %d")), "--no-cache")
	race(1, rows)
	report(t, "build: 30 steps of RUN true, no cache", rows)

	four := "FROM kist.test/busybox AS base\n"
	last := "FROM base\n"
	for i := range 4 {
		four += fmt.Sprintf("FROM base AS s%d\nRUN sleep 2; echo %d > /out\n", i, i)
		last += fmt.Sprintf("COPY --from=s%d /out /out%d\n", i, i)
	}
	rows = b.rows(b.context("stages", four+last), "--no-cache")
	race(1, rows)
	report(t, "build: four independent stages of 2 s each", rows)
	b.memory()
}

func TestBuildContexts(t *testing.T) {
	want(t, "build")
	b := newBuilders(t, false, testbed.Busybox)
	big := b.context("big", "FROM kist.test/busybox\nCOPY . /all\n")
	b.fill(big, 50_000, 20<<10)
	rows := b.rows(big)
	race(2, rows)
	report(t, "build: nothing changed, context of 1 GB in 50,000 files", rows)

	// A layer's tar is hashed from the first difference on, so it counts where the file comes in the order of the names.
	for _, f := range []struct{ place, name string }{{"middle", "31/0/31000"}, {"first", "0/0/0"}, {"last", "9/9/9499"}} {
		rows = b.rows(big)
		for _, r := range rows {
			build := r.run
			r.run = func() error {
				if err := os.WriteFile(filepath.Join(big, f.name), []byte(rand.Text()), 0o600); err != nil {
					return err
				}
				return build()
			}
		}
		race(1, rows)
		report(t, "build: one file of those changed, the "+f.place+" one, COPY of all", rows)
	}

	many := b.context("many", "FROM kist.test/busybox\nCOPY . /all\n")
	b.fill(many, 20_000, 4<<10)
	rows = b.rows(many, "--no-cache")
	race(1, rows)
	report(t, "build: COPY of 20,000 files, no cache", rows)
	b.memory()
}

func TestBuildInstall(t *testing.T) {
	want(t, "build")
	debs, err := testbed.Debs(t.Context(), "python3")
	if err != nil {
		t.Skipf("skip: no packages to install: %v", err)
	}
	b := newBuilders(t, false, testbed.Debian)
	base := b.context("debs", "FROM kist.test/debian\nCOPY debs /debs\n")
	if out, err := exec.Command("cp", "-r", debs, filepath.Join(base, "debs")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, r := range b.rows(base) {
		if r.run = b.list[i].runner(b.tagged(i, "debs", base)...); r.run() != nil {
			t.Fatalf("%s cannot make the base image", r.name)
		}
	}
	const install = "echo 'deb [trusted=yes] file:/debs ./' > /etc/apt/sources.list && rm -rf /etc/apt/sources.list.d && " +
		"apt-get update && apt-get install -y --no-install-recommends python3"
	context := b.context("install", "FROM debs\nRUN "+install+"\n")
	rows := append(b.rows(context, "--no-cache"), b.buildx(context, "--no-cache")...)
	rows = append(rows, b.chroot("debs", install))
	race(5, rows)
	report(t, "build: apt-get install python3 from a local package cache, no cache", rows)
	b.memory()
}

// chroot runs a command on an image's files with no container and no image made of what it leaves: no build is faster. The
// files lie in an overlay that never syncs, as they do in kist's builds.
func (b *builders) chroot(image, command string) *row {
	b.t.Helper()
	dir := filepath.Join(b.dir, "chroot")
	h := b.kist.host
	h.Run("mkdir", "-p", filepath.Join(dir, "lower"))
	h.Run("kist", "create", "--name", "tree", image, "true")
	h.Run("sh", "-c", `kist export tree | tar -x -C "$1"`, "sh", filepath.Join(dir, "lower"))
	h.Run("kist", "rm", "tree")
	const script = `set -e; cd "$(mktemp -d "$1/XXXXXX")"; mkdir upper work root
mount -t overlay overlay -o volatile,lowerdir=../lower,upperdir=upper,workdir=work root
mount -t proc proc root/proc; mount --rbind /dev root/dev
exec chroot root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "$2"`
	return &row{name: "the command in a chroot", run: func() error {
		_, err := h.Try("unshare", "-mpf", "sh", "-c", script, "sh", dir, command)
		return err
	}}
}

// tagged are the arguments of a build with a name.
func (b *builders) tagged(i int, tag, context string) []string {
	if strings.HasPrefix(b.name[i], "buildah") {
		return []string{"bud", "-q", "--isolation", "chroot", "--pull-never", "--layers", "-t", tag, context}
	}
	return []string{"build", "-q", "-t", tag, context}
}
