package cli

import (
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// doctorCommand has the daemon's program examine this host: it knows what to look for, and needs no daemon that runs.
func (a *app) doctorCommand() *cobra.Command {
	var asJSON, deep, fix bool
	c := &cobra.Command{Use: "doctor [OPTIONS]", Args: noArgs}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "Print the report as JSON")
	f.BoolVar(&deep, "deep", false, "Read all blobs, not a sample")
	f.BoolVar(&fix, "fix", false, "Clear away what belongs to no container")
	c.RunE = func(*cobra.Command, []string) error {
		if e, err := a.endpoint(); err == nil && !e.Own {
			a.note(fmt.Sprintf("warning: %s names %s, but it is this host that is examined", e.From, e))
		}
		program, err := (&client.Starter{}).Find()
		if err != nil {
			return err
		}
		args := []string{program, "doctor"}
		for _, o := range []struct {
			flag string
			set  bool
		}{{"--json", asJSON}, {"--deep", deep}, {"--fix", fix}} {
			if o.set {
				args = append(args, o.flag)
			}
		}
		err = syscall.Exec(program, args, os.Environ())
		return fmt.Errorf("run %s: %w", program, err)
	}
	return c
}
