package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/doctor"
	"github.com/kistdev/kist/internal/fault"
)

// examine is "kistd doctor": it looks at the host with the daemon's own settings, and returns the exit status.
func examine(args []string) int {
	c := new(config)
	f := c.flags()
	f.Init("kistd doctor", pflag.ContinueOnError)
	asJSON := f.Bool("json", false, "print the report as JSON")
	deep := f.Bool("deep", false, "read all blobs, not a sample")
	fix := f.Bool("fix", false, "clear away what belongs to no container")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		report(badSetting("%v", err))
		return 125
	}
	c.given = map[string]bool{}
	err := c.readFile(f)
	// What could not be read has its defaults.
	if cerr := c.complete(); err == nil {
		err = cerr
	}
	r := doctor.Run(context.Background(), doctor.Options{
		DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, Instance: c.instance(), CgroupParent: c.CgroupParent, Bridge: c.Bridge,
		Socket: c.unixSocket(), Mirrors: c.Mirrors, Insecure: c.Insecure, CertDirs: certDirs(),
		ConfigFile: c.file, ConfigErr: withoutPrefix(err), Version: version, Deep: *deep, Fix: *fix,
	})
	if *asJSON {
		err = r.WriteJSON(os.Stdout)
	} else {
		err = r.WriteText(os.Stdout, colours())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if r.Summary.Fail > 0 {
		return 1
	}
	return 0
}

// withoutPrefix leaves out that the daemon cannot start: the doctor says so by itself.
func withoutPrefix(err error) error {
	if f, ok := fault.As(err); ok {
		plain := *f
		plain.What = strings.TrimPrefix(f.What, cannotStart)
		return &plain
	}
	return err
}

// unixSocket is the first of the daemon's sockets that is a file.
func (c *config) unixSocket() string {
	for _, h := range c.Hosts {
		if path, ok := strings.CutPrefix(h, "unix://"); ok {
			return path
		}
	}
	return filepath.Join(c.ExecRoot, "kist.sock")
}

// certDirs are where certificates of registries are looked for.
func certDirs() []string { return []string{"/etc/kist/certs.d", "/etc/docker/certs.d"} }

// colours says whether standard output is a person's terminal who has nothing against them.
func colours() bool {
	st, err := os.Stdout.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
