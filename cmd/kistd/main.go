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
	"syscall"

	"github.com/spf13/pflag"
)

// version is set by the linker (-X main.version, -X main.commit).
var (
	version = "0.1.0-dev"
	commit  = ""
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "kistd: "+err.Error())
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
	release, err := claim(c)
	if err != nil {
		return err
	}
	defer release()
	if c.teardown {
		return teardown(ctx, c)
	}
	return serve(ctx, c)
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
			return nil, fmt.Errorf("make root: %w", err)
		}
		f, err := lock(filepath.Join(dir, "kistd.lock"))
		if err != nil {
			release()
			return nil, fmt.Errorf("%s is in use by another kistd (%w); give this one a --data-root and an --exec-root of its own", dir, err)
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

func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
