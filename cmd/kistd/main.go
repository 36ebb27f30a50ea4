// Kistd is kist's daemon: images, networks, containers' lives and the API. It may die at any time: containers go on, and
// the next daemon takes them over.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/doctor"
	"github.com/kistdev/kist/internal/fault"
)

// version is set by the linker (-X main.version, -X main.commit).
var (
	version = "0.1.0-dev"
	commit  = ""
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "doctor" {
		os.Exit(examine(os.Args[2:]))
	}
	if err := run(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return
		}
		report(err)
		os.Exit(1)
	}
}

func run(args []string) error {
	c, err := parseConfig(args)
	if err != nil {
		return err
	}
	if c.showVersion {
		fmt.Printf("kistd version %s, build %s\n", version, commit)
		return nil
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.level()})))
	debug.SetGCPercent(garbageIdle)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	if err := mayRun(); err != nil {
		return err
	}
	release, err := claim(c)
	if err != nil {
		return err
	}
	defer release()
	if err := carries(c.DataRoot); err != nil {
		return err
	}
	if c.teardown {
		return teardown(ctx, c)
	}
	return serve(ctx, c)
}

// mayRun refuses a process that could do nothing: the kernel would say so of the first mount, in words that help nobody.
func mayRun() error {
	if uid := os.Geteuid(); uid != 0 {
		return &fault.Error{
			Code: "daemon-needs-root", What: cannotStart + "it needs root", Cause: fmt.Sprintf("this is user %d", uid),
			Try: "sudo kist ...", Class: errdefs.ErrPermissionDenied,
		}
	}
	return nil
}

// plain are the file systems of which it is known that a container's writable layer can lie on them.
var plain = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC}

// carries refuses a data root on a file system that no container could run on: it is tried where that is not known.
func carries(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || slices.Contains(plain, st.Type) {
		return err
	}
	if f := doctor.DataRoot(dir); f != nil {
		return &fault.Error{Code: "daemon-data-root", What: cannotStart + f.Text, Try: f.Try, Class: errdefs.ErrFailedPrecondition}
	}
	return nil
}

// claim takes the data root and the exec root for this process, and writes the pid file.
func claim(c *config) (release func(), err error) {
	var held []*os.File
	release = func() {
		for _, f := range held {
			_ = f.Close()
		}
		_ = os.Remove(c.PidFile)
	}
	for _, dir := range []string{c.DataRoot, c.ExecRoot} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			release()
			return nil, err
		}
		f, err := lock(filepath.Join(dir, "kistd.lock"))
		if err != nil {
			release()
			return nil, taken(dir, filepath.Join(dir, "kistd.lock"), err)
		}
		held = append(held, f)
	}
	if err := os.MkdirAll(filepath.Dir(c.PidFile), 0o755); err != nil {
		release()
		return nil, err
	}
	if err := os.WriteFile(c.PidFile, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		release()
		return nil, fmt.Errorf("write pid file: %w", err)
	}
	return release, nil
}

// handover is how long a daemon waits for another one, which may be about to end, or to find that it cannot start.
const handover = 2 * time.Second

// lock takes the file for this process. If another one keeps it, the error is EWOULDBLOCK.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(handover); ; time.Sleep(handover / 100) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	// For those who find it locked: who it is.
	_ = f.Truncate(0)
	_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
