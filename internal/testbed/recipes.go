package testbed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func config(cmd ...string) dockerspec.DockerOCIImageConfig {
	return dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Env: []string{path}, Cmd: cmd}}
}

// Busybox is one small layer: Debian's busybox-static with its applets.
var Busybox = Recipe{
	Name: "kist.test/busybox:latest", File: "busybox", Config: config("sh"),
	Layers: []Step{{"busybox-static", makeBusybox}},
}

// Debian is a minimal Debian.
var Debian = Recipe{
	Name: "kist.test/debian:latest", File: "debian", Config: config("bash"),
	Layers: []Step{{"debootstrap --variant=minbase", debootstrap}},
}

// Python is Debian with Python.
var Python = Recipe{
	Name: "kist.test/python:latest", File: "python", Config: config("python3"),
	Layers: append(Debian.Layers[:1:1], install("python3")),
}

// Science is the large image of the benchmarks: three layers, 1.5 GB.
var Science = Recipe{
	Name: "kist.test/science:latest", File: "science", Config: config("python3"),
	Layers: append(Python.Layers[:2:2], install("python3-numpy", "python3-scipy", "python3-pandas")),
}

// Web is a small web application on Python: it answers on port 8080 with its host name, its greeting (from the
// environment) and how often it was asked, logs each request, and stops at once on SIGTERM.
var Web = func() Recipe {
	c := config("python3", "/app/web.py")
	c.Env = append(c.Env, "GREETING=hello")
	c.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	c.WorkingDir = "/app"
	return Recipe{
		Name: "kist.test/web:latest", File: "web", Config: c,
		Layers: append(Python.Layers[:2:2], Step{"the web application", func(_ context.Context, root string) error {
			if err := os.MkdirAll(filepath.Join(root, "app"), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(root, "app", "web.py"), []byte(webApp), 0o644)
		}}),
	}
}()

const webApp = `import http.server, os, signal, socket, sys

count = 0

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global count
        count += 1
        body = f"{os.environ['GREETING']} from {socket.gethostname()}, request {count}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *args):
        print(form % args, flush=True)

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening on 8080", flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
`

// Recipes are all images by file name.
func Recipes() map[string]Recipe {
	all := map[string]Recipe{}
	for _, r := range []Recipe{Busybox, Debian, Python, Science, Web, Golang, Node, Pip, Tiers} {
		all[r.File] = r
	}
	return all
}

// MustArchive is Archive for tests. A machine on which the image cannot be made skips, with the reason.
func (r Recipe) MustArchive(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: making images needs root")
	}
	file, err := r.Archive(t.Context())
	if err != nil {
		t.Skipf("skip: cannot make the image %s: %v", r.File, err)
	}
	return file
}

func makeBusybox(ctx context.Context, root string) error {
	binary := "/bin/busybox"
	if _, err := os.Stat(binary); err != nil {
		return errors.New("busybox is missing: apt-get install busybox-static")
	}
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "sbin", "var/www"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), content, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, binary, "--list").Output()
	if err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	for applet := range strings.FieldsSeq(string(out)) {
		if applet == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
		"etc/group":  "root:x:0:\ndaemon:x:1:\nstaff:x:50:www-data\nwww-data:x:33:\nnogroup:x:65534:\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// aptSource is the suite and mirror that the host itself installs from; the mirror is empty if apt names none.
func aptSource() (suite, mirror string) {
	suite = "bookworm"
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "VERSION_CODENAME="); ok {
				suite = v
			}
		}
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	for _, file := range append(files, "/etc/apt/sources.list") {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(raw)) {
			if strings.HasPrefix(word, "http") && strings.HasSuffix(strings.TrimSuffix(word, "/"), "/debian") && !strings.Contains(word, "snapshot.") {
				return suite, word
			}
		}
	}
	return suite, mirror
}

func debootstrap(ctx context.Context, root string) error {
	suite, mirror := aptSource()
	if mirror == "" {
		return errors.New("apt's configuration names no Debian mirror to install from")
	}
	if err := command(ctx, "debootstrap", "--variant=minbase", suite, root, mirror); err != nil {
		return err
	}
	return tidy(root)
}

// tidy removes what differs each time or is of no use in an image.
func tidy(root string) error {
	for _, pattern := range []string{"var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "var/log/*.log", "var/log/apt/*", "etc/resolv.conf"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// apt installs packages in a root by the root's own apt, with the machine's name servers.
func apt(ctx context.Context, root string, packages []string, flags ...string) error {
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/resolv.conf"), resolv, 0o644); err != nil {
		return err
	}
	words := slices.Concat([]string{"apt-get install -y -q --no-install-recommends"}, flags, packages)
	return command(ctx, "chroot", root, "/bin/sh", "-c", "apt-get update -q && "+strings.Join(words, " "))
}

// install is a step that installs Debian packages in the layers below it.
func install(packages ...string) Step {
	return Step{"apt-get install " + strings.Join(packages, " "), func(ctx context.Context, root string) error {
		if err := apt(ctx, root, packages); err != nil {
			return err
		}
		return tidy(root)
	}}
}
