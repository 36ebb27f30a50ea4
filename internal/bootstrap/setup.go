package bootstrap

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// settings are written before the packages are configured, where a package has not brought them.
func (j *job) settings(root *sys.Root) error {
	for _, name := range []string{"etc", "usr/bin", "usr/sbin"} {
		dir, err := root.MkdirAll(name, 0o755)
		if err != nil {
			return err
		}
		_ = dir.Close() // it was only opened
	}
	if err := addFile(root, "etc/fstab", []byte("# UNCONFIGURED FSTAB FOR BASE SYSTEM\n"), 0o644); err != nil {
		return err
	}
	if err := j.sourceList(root); err != nil {
		return err
	}
	if old := j.names(); !j.merged() && !slices.ContainsFunc(old, func(n string) bool { return slices.Contains(splitWithoutSaying, n) }) {
		// By which usr-is-merged knows that it is on purpose.
		if err := addFile(root, "etc/unsupported-skip-usrmerge-conversion", []byte("this system will not be supported in the future\n"), 0o644); err != nil {
			return err
		}
	}
	links := [][2]string{{"usr/bin/awk", "mawk"}, {"etc/localtime", "/usr/share/zoneinfo/UTC"}}
	if _, err := root.Lstat("usr/bin/mawk"); err != nil {
		links = links[1:]
	}
	for _, l := range links {
		if err := addLink(root, l[0], l[1]); err != nil {
			return err
		}
	}
	return writeFile(root, policy, []byte("#!/bin/sh\nexit 101\n"), 0o755)
}

// policy keeps packages from starting services.
const policy = "usr/sbin/policy-rc.d"

func addFile(root *sys.Root, name string, data []byte, mode uint32) error {
	if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(root, name, data, mode)
}

func addLink(root *sys.Root, name, target string) error {
	dir, base, err := root.Parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(target, int(dir.Fd()), base); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("/%s: %w", name, err)
	}
	return nil
}

// sourceList tells the image's apt where its packages are from. Passwords stay here.
func (j *job) sourceList(root *sys.Root) error {
	if _, err := root.Lstat("etc/apt"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there is no apt
		}
		return err
	}
	var b strings.Builder
	for _, a := range j.archives {
		u := *a.uri
		u.User = nil
		fmt.Fprintf(&b, "deb %s %s %s\n", u.String(), a.suite, strings.Join(a.components, " "))
	}
	return writeFile(root, "etc/apt/sources.list", []byte(b.String()), 0o644)
}

// leftovers are files that tell of the time or of this machine, and caches; those that end in /* are directories' contents.
var leftovers = []string{
	policy, "var/cache/ldconfig/aux-cache", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/cache/apt/archives/lock", debDir + "/*", "var/lib/apt/lists/*", "var/log/*.log",
	"var/log/apt/*", "var/cache/debconf/*-old", "var/lib/dpkg/*-old", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-",
	"etc/subuid-", "etc/subgid-", "var/lib/systemd/random-seed", "var/lib/dbus/machine-id", "run/*", "tmp/*", "var/tmp/*",
	"var/cache/man/*", "var/cache/fontconfig/*", "etc/.pwd.lock",
	"etc/ssh/ssh_host_*", // what every container of an image has is no secret
}

// cleanUp removes them, and empties what must be there.
func cleanUp(root *sys.Root) error {
	for _, pattern := range leftovers {
		dir, base, err := root.Parent(pattern)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = removeMatches(root, dir, strings.TrimSuffix(pattern, base), base)
		_ = dir.Close() // it was only read
		if err != nil {
			return fmt.Errorf("clean up %s: %w", pattern, err)
		}
	}
	if _, err := root.Lstat("etc/machine-id"); err == nil {
		if err := writeFile(root, "etc/machine-id", nil, 0o444); err != nil {
			return err
		}
	}
	return nil
}

// kept are directories that packages have, and which are emptied only.
var kept = []string{"var/lib/apt/lists/partial", "var/lib/apt/lists/auxfiles", "var/cache/apt/archives/partial", "run/lock"}

func removeMatches(root *sys.Root, dir *os.File, at, pattern string) error {
	prefix, suffix, glob := strings.Cut(pattern, "*")
	if !glob {
		return sys.RemoveAllAt(int(dir.Fd()), pattern)
	}
	f, err := root.Open("/"+at, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, suffix) || slices.Contains(kept, at+name) {
			continue
		}
		if err := sys.RemoveAllAt(int(f.Fd()), name); err != nil {
			return err
		}
	}
	return nil
}
