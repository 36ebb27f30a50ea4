package testbed

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// makeLayer runs a step in a directory that shows the layers below, and leaves in dir what the step added.
func makeLayer(ctx context.Context, work, dir string, below []string, step Step) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if len(below) == 0 {
		return step.Make(ctx, dir)
	}
	lower := slices.Clone(below)
	slices.Reverse(lower)
	ovl, root := filepath.Join(work, "work"), filepath.Join(work, "root")
	for _, d := range []string{ovl, root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), dir, ovl)
	if err := unix.Mount("overlay", root, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	err := step.Make(ctx, root)
	if umountErr := unix.Unmount(root, 0); err == nil && umountErr != nil {
		err = fmt.Errorf("unmount overlay: %w", umountErr)
	}
	return err
}

// writeLayer writes a directory (an overlay's upper one) as a layer tar.
func writeLayer(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	links := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		return writeEntry(tw, path, name, links)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, path, name string, links map[uint64]string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no stat", path)
	}
	switch {
	case fi.Mode()&fs.ModeSocket != 0:
		return nil
	case fi.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0: // Overlay's whiteout.
		base := filepath.Join(filepath.Dir(name), ".wh."+filepath.Base(name))
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: base, Mode: 0o600})
	}
	target := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname = name, "", ""
	h.ModTime, h.AccessTime, h.ChangeTime = h.ModTime.Truncate(time.Second), time.Time{}, time.Time{}
	if fi.IsDir() {
		h.Name += "/"
	}
	if fi.Mode().IsRegular() && st.Nlink > 1 {
		if first, ok := links[st.Ino]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return tw.WriteHeader(h)
		}
		links[st.Ino] = name
	}
	if err := tw.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

// command runs a program and puts its output into the error.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(out))
	}
	return nil
}

func tail(out []byte) []byte {
	const most = 2000
	if len(out) > most {
		return out[len(out)-most:]
	}
	return out
}
