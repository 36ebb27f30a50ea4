// Manual writes what is to be read about kist: pages of the reference, and man pages.
//
//	manual -reference docs/reference -kistd bin/kistd
//	manual -man DIR -version 1.2.3 -date 1700000000 -kistd bin/kistd
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose"
	"github.com/kistdev/kist/internal/manual"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func run() error {
	reference := flag.String("reference", "", "directory for the pages of the reference")
	man := flag.String("man", "", "directory for man pages: man1 and man8 in it")
	version := flag.String("version", "", "version of kist")
	date := flag.Int64("date", 0, "when it was made, in seconds since 1970")
	daemon := flag.String("kistd", "bin/kistd", "the daemon's program")
	flag.Parse()
	help, err := daemonHelp(*daemon)
	if err != nil {
		return err
	}
	if *reference != "" {
		pages := manual.Markdown(cli.Tree(), compose.Tree())
		pages["kistd.md"] = manual.DaemonMarkdown(help)
		if err := write(*reference, pages); err != nil {
			return err
		}
		if err := tidy(*reference, pages); err != nil {
			return err
		}
	}
	if *man == "" {
		return nil
	}
	o := manual.Origin{Version: *version, Date: time.Unix(*date, 0)}
	if err := write(filepath.Join(*man, "man1"), manual.Man(o, cli.Tree(), compose.Tree())); err != nil {
		return err
	}
	return write(filepath.Join(*man, "man8"), map[string]string{"kistd.8": manual.Daemon(help, o)})
}

// daemonHelp asks the daemon's program for its flags, as it is for root.
func daemonHelp(program string) (string, error) {
	cmd := exec.Command(program, "--help")
	cmd.Env = []string{"HOME=/root"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s --help: %w: %s", program, err, out)
	}
	return string(out), nil
}

func write(dir string, pages map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name := range maps.Keys(pages) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(pages[name]), 0o644); err != nil { //nolint:gosec // for everybody to read
			return err
		}
	}
	return nil
}

// tidy removes pages of commands that have gone.
func tidy(dir string, pages map[string]string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		if _, ok := pages[d.Name()]; ok {
			return nil
		}
		return os.Remove(path)
	})
}
