package test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistdev/kist/internal/testbed"
)

// buildahDiffers is what Debian's buildah does in another way than Docker and kist, by recipe: it leaves the place of its mounts,
// makes the directories of volumes and does not give them their owners, does not take ranges of ports apart, and
// gives an agent's socket another mode.
var buildahDiffers = map[string]struct{ files, config []string }{
	"onbuild":     {files: []string{"run"}},
	"healthcheck": {files: []string{"run", "data", "var/cache", "var/cache/app"}, config: []string{"ExposedPorts"}},
	"sixty":       {files: []string{"run"}},
	"ssh":         {files: []string{"run", "run/buildkit", "about"}},
}

// buildahCannot are the recipes that are not compared with buildah, and why. It isolates by chroot here, copies a base before it
// begins and after each step, and hashes all of it: the large ones were compared once, and were equal.
var buildahCannot = map[string]string{
	"go":       "equal but for a working directory that is the root, which buildah leaves out; it takes 40 s",
	"cross":    "equal but for a working directory that is the root, which buildah leaves out; it takes 15 s",
	"python":   "equal but for the place of a cache mount; buildah takes 30 s",
	"node":     "equal; buildah takes 110 s",
	"c":        "equal; buildah takes 30 s",
	"heredoc":  "buildah reads heredocs since 1.33",
	"monorepo": "buildah has no COPY --parents before 1.41",
	"secret":   "buildah has no secrets in the environment of a step",
}

// buildah is a host with buildah, which has no daemon.
type buildah struct {
	host   *testbed.Host
	mirror string
	loaded map[string]bool
}

// do runs buildah. In these hosts it can isolate by chroot only.
func (b *buildah) do(t *testing.T, args ...string) {
	t.Helper()
	all := append([]string{"--root", filepath.Join(b.host.Dir, "buildah"), "--runroot", filepath.Join(b.host.Dir, "buildah-run")}, args...)
	if out, err := b.host.Try("buildah", all...); err != nil {
		t.Fatalf("buildah %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// build builds a recipe and takes the image apart.
func (b *buildah) build(t *testing.T, r recipe) *flat {
	t.Helper()
	for _, base := range r.base {
		if !b.loaded[base.Name] {
			b.do(t, "pull", "-q", "docker-archive:"+base.MustArchive(t))
			b.loaded[base.Name] = true
		}
	}
	dir, err := filepath.Abs(filepath.Join("testdata", "dockerfiles", r.name))
	if err != nil {
		t.Fatal(err)
	}
	bud := []string{"bud", "-q", "--isolation", "chroot", "--pull-never", "--format", "docker", "--identity-label=false", "--add-host", "mirror:127.0.0.1"}
	if r.before != "" {
		b.do(t, append(bud, "-t", "platform", "-f", filepath.Join(dir, r.before), dir)...)
	}
	args := append(bud, "-t", "corpus/"+r.name)
	for _, a := range r.build {
		args = append(args, strings.ReplaceAll(a, "{mirror}", b.mirror))
	}
	if r.setup != nil {
		args = append(args, r.setup(t, b.host)...)
	}
	b.do(t, append(args, dir)...)
	file := filepath.Join(b.host.Dir, r.name+".tar")
	b.do(t, "push", "-q", "corpus/"+r.name, "docker-archive:"+file+":corpus/"+r.name)
	f, err := flatten(file)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDockerfilesBuildah compares what kist makes of the Dockerfiles with what buildah makes of them.
func TestDockerfilesBuildah(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("skip: buildah is not installed")
	}
	kist := newBuilder(t, "kist")
	b := &buildah{host: testbed.NewHost(t), loaded: map[string]bool{}}
	answers, _ := mirror(t)
	b.mirror = "mirror:" + serve(t, b.host, answers)
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			if why := buildahCannot[r.name]; why != "" {
				t.Skipf("skip: %s", why)
			}
			differs := buildahDiffers[r.name]
			if err := kist.lacks[r.name]; err != nil {
				t.Skipf("skip: %v", err)
			}
			mine, theirs := kist.save(t, kist.build(t, r)), b.build(t, r)
			for _, p := range differs.files {
				delete(theirs.files, p)
				delete(mine.files, p)
			}
			for _, key := range differs.config {
				delete(theirs.config, key)
				delete(mine.config, key)
			}
			maps.DeleteFunc(theirs.config, func(_ string, v any) bool { // It writes empty ones.
				list, isList := v.([]any)
				object, isObject := v.(map[string]any)
				return isList && len(list) == 0 || isObject && len(object) == 0
			})
			if diff := cmp.Diff(theirs.files, mine.files); diff != "" {
				t.Errorf("files (-buildah +kist):\n%s", diff)
			}
			if diff := cmp.Diff(theirs.config, mine.config); diff != "" {
				t.Errorf("configuration (-buildah +kist):\n%s", diff)
			}
		})
	}
}
