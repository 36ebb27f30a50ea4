package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Golang is Busybox with the Go that this program was built with: its tools need no library.
var Golang = func() Recipe {
	c := config("sh")
	c.Env = []string{path + ":/usr/local/go/bin", "GOTOOLCHAIN=local", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false"}
	return Recipe{
		Name: "kist.test/golang:latest", File: "golang", Config: c, Plain: true,
		Layers: append(Busybox.Layers[:1:1], Step{"the Go toolchain", copyGo}),
	}
}()

// Node is Debian with Node.js and npm.
var Node = Recipe{
	Name: "kist.test/node:latest", File: "node", Config: config("node"), Plain: true,
	Layers: append(Debian.Layers[:1:1], install("nodejs", "npm")),
}

// Pip is Python with its package installer.
var Pip = Recipe{
	Name: "kist.test/pip:latest", File: "pip", Config: config("python3"), Plain: true,
	Layers: append(Python.Layers[:2:2], install("python3-pip")),
}

// copyGo copies what it takes to build programs: no tests and no test data.
func copyGo(ctx context.Context, root string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("where Go is: %w", err)
	}
	from, to := strings.TrimSpace(string(out)), filepath.Join(root, "usr/local/go")
	for _, part := range []string{"bin", "pkg", "src", "VERSION", "go.env"} {
		if err := copyTree(filepath.Join(from, part), filepath.Join(to, part)); err != nil {
			return fmt.Errorf("copy Go: %w", err)
		}
	}
	return nil
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(name, from)
		switch {
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case strings.HasSuffix(name, "_test.go"):
			return nil
		}
		return copyFile(name, target)
	})
}

func copyFile(from, to string) error {
	fi, err := os.Stat(from)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, raw, fi.Mode().Perm())
}

// Debs returns a directory with Debian packages and all they depend on beyond the image Debian, as a repository that apt
// reads when it is served: "deb [trusted=yes] URL ./".
func Debs(ctx context.Context, packages ...string) (string, error) {
	return made(ctx, "debs-"+strings.Join(packages, "-"), func(dir string) error {
		step := Step{"apt-get download", func(ctx context.Context, root string) error {
			if err := apt(ctx, root, packages, "--download-only"); err != nil {
				return err
			}
			files, err := filepath.Glob(filepath.Join(root, "var/cache/apt/archives/*.deb"))
			if err != nil {
				return err
			}
			for _, f := range files {
				// Versions have characters that apt escapes, once or twice, in addresses.
				name := strings.NewReplacer("%", "_", "+", "_", "~", "_").Replace(filepath.Base(f))
				if err := copyFile(f, filepath.Join(dir, name)); err != nil {
					return err
				}
			}
			return nil
		}}
		base, err := stepDir(ctx, nil, Debian.Layers)
		if err != nil {
			return err
		}
		work, err := os.MkdirTemp(Images(), ".debs-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		if err := makeLayer(ctx, work, filepath.Join(work, "layer"), []string{base}, step); err != nil {
			return err
		}
		return indexDebs(ctx, dir)
	})
}

// indexDebs writes the list that apt wants.
func indexDebs(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, f := range files {
		about, err := exec.CommandContext(ctx, "dpkg-deb", "-f", f).Output()
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(f), err)
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n", about, filepath.Base(f), len(raw), sum(raw))
	}
	return os.WriteFile(filepath.Join(dir, "Packages"), []byte(list.String()), 0o644)
}

// NPM returns a directory with packages ("is-number@7.0.0") as npm's registry serves them: NAME-VERSION.tgz.
func NPM(ctx context.Context, packages ...string) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is missing: apt-get install npm")
	}
	return made(ctx, "npm-"+strings.Join(packages, "-"), func(dir string) error {
		return command(ctx, npm, append([]string{"pack", "--silent", "--pack-destination", dir}, packages...)...)
	})
}

// made returns the directory called name below the images', which make fills the first time.
func made(_ context.Context, name string, fill func(dir string) error) (string, error) {
	if err := os.MkdirAll(Images(), 0o755); err != nil {
		return "", err
	}
	dir := filepath.Join(Images(), name)
	unlock, err := lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp(Images(), ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := fill(work); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(work, dir)
}

func sum(raw []byte) string {
	s := sha256.Sum256(raw)
	return hex.EncodeToString(s[:])
}

// Tiers is Debian with Python and PostgreSQL: what the parts of a web application need.
var Tiers = Recipe{
	Name: "kist.test/tiers:latest", File: "tiers", Config: config("python3"), Plain: true,
	Layers: append(Debian.Layers[:1:1], Step{"apt-get install python3 python3-psycopg2 postgresql", func(ctx context.Context, root string) error {
		// The server must not be started where its package is installed.
		policy := filepath.Join(root, "usr/sbin/policy-rc.d")
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		if err := install("python3", "python3-psycopg2", "postgresql").Make(ctx, root); err != nil {
			return err
		}
		return os.Remove(policy)
	}}),
}
