package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// elsewhere starts a further daemon with an empty store on the program's host, and returns its address.
func elsewhere(t *testing.T, p *program, name string) string {
	t.Helper()
	dir := filepath.Join(p.host.Dir, name)
	socket := "unix://" + filepath.Join(dir, "run", "kist.sock")
	cmd := p.host.Command(filepath.Join(testbed.Bin(), "kistd"), "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "run"),
		"-H", socket, "--cgroup-parent", p.host.Cgroup(), "--bridge", "none")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if p.do("-H", socket, "version") == nil {
			return socket
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the other daemon does not answer")
	return ""
}

// application is an image with 64 MB of files of its own on top of science, in a version.
func application(t *testing.T, p *program, version byte) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.NewChaCha8([32]byte{1})
	for i := range 64 {
		b := make([]byte, 1<<20)
		_, _ = r.Read(b)
		if i == 7 {
			b[500_000] = version // The change: one byte in one of the files.
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%02d", i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+science+"\nCOPY file* /app/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("127.0.0.1:5000/application:%d", version)
	if err := p.do("build", "-q", "-t", name, dir); err != nil {
		t.Fatal(err)
	}
	return name
}

// way is one way to bring an image to another store.
type way struct {
	name  string
	bring func(image, to string) (bytes string, err error)
}

func TestMove(t *testing.T) {
	want(t, "move")
	k := kist(t)
	registry(t, k, t.TempDir())
	if err := k.do("load", "-q", "-i", testbed.Science.MustArchive(t)); err != nil {
		t.Fatal(err)
	}
	first, second := application(t, k, 1), application(t, k, 2)
	size := filepath.Join(k.host.Dir, "bytes")
	ways := []way{
		{"kist move", func(image, to string) (string, error) {
			out, err := k.out("move", "--progress", "plain", image, to)
			_, sent, _ := strings.Cut(out, "\nsent ")
			sent, _, _ = strings.Cut(sent, " of")
			return sent, err
		}},
		{"kist save | kist load", func(image, to string) (string, error) {
			_, err := k.host.Try("sh", "-c", fmt.Sprintf("%[1]s save %[2]s | tee >(wc -c >%[4]s) | %[1]s -H %[3]s load -q", k.path, image, to, size))
			if err != nil { // A shell without >( ).
				_, err = k.host.Try("bash", "-c", fmt.Sprintf("%[1]s save %[2]s | tee >(wc -c >%[4]s) | %[1]s -H %[3]s load -q", k.path, image, to, size))
			}
			raw, _ := os.ReadFile(size)
			return strings.TrimSpace(string(raw)) + " B", err
		}},
		{"push and pull", func(image, to string) (string, error) {
			if err := k.do("push", "-q", image); err != nil {
				return "", err
			}
			return "", k.do("-H", to, "pull", "-q", image)
		}},
	}
	rows := map[string][]*row{}
	for round := range 2 {
		for n, w := range ways {
			to := elsewhere(t, k, fmt.Sprintf("to-%d-%d", n, round))
			for i, image := range []string{first, second} {
				title := []string{"an image of 281 MB in gzip layers and 64 MB on top, to an empty store", "the same with one byte changed in the 64 MB"}[i]
				r := &row{name: w.name}
				for _, known := range rows[title] {
					if known.name == w.name {
						r = known
					}
				}
				if len(r.times) == 0 && r.err == nil {
					rows[title] = append(rows[title], r)
				}
				begin := time.Now()
				sent, err := w.bring(image, to)
				r.times, r.err = append(r.times, time.Since(begin)), err
				t.Logf("%s: %s: %v, %s sent", title, w.name, time.Since(begin).Round(time.Millisecond), sent)
			}
		}
	}
	for title, list := range rows {
		report(t, title, list)
	}
}
