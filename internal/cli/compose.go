package cli

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/fault"
)

// composeCommand hands over to a program of its own: reading Compose files links what no other command needs.
func (a *app) composeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compose [OPTIONS] COMMAND", DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			program, err := findCompose()
			if err != nil {
				return err
			}
			argv := append(append([]string{program}, a.globals.arguments()...), args...)
			if err := syscall.Exec(program, argv, os.Environ()); err != nil {
				return &fault.Error{Code: "compose-not-runnable", What: "cannot run " + program, Cause: err.Error(), Class: errdefs.ErrUnavailable}
			}
			return nil
		},
	}
}

// arguments are the flags again that were given before the command.
func (g *globals) arguments() []string {
	var out []string
	for _, f := range []struct{ name, value string }{
		{"host", g.host}, {"context", g.context}, {"config", g.configDir}, {"tlscacert", g.tlsCA}, {"tlscert", g.tlsCert}, {"tlskey", g.tlsKey},
	} {
		if f.value != "" {
			out = append(out, "--"+f.name+"="+f.value)
		}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"tls", g.tls}, {"tlsverify", g.tlsVerify}, {"no-autostart", g.noAutostart}} {
		if f.set {
			out = append(out, "--"+f.name)
		}
	}
	return out
}

// findCompose looks for the program beside this one, where a package puts it, and in PATH.
func findCompose() (string, error) {
	const name = "kist-compose"
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self), filepath.Join(filepath.Dir(self), "..", "libexec", "kist"))
	}
	for _, d := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if !filepath.IsAbs(d) {
			continue
		}
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &fault.Error{
		Code: "compose-not-installed", What: "kist compose is not installed", Cause: "no " + name + " is beside the kist program, in ../libexec/kist or in PATH",
		Try: "install " + name + " next to kist", Class: errdefs.ErrUnavailable,
	}
}
