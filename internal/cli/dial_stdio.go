package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// dialStdioCommand joins standard input and output to the daemon's socket: ssh:// addresses run it on the other side.
func (a *app) dialStdioCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dial-stdio", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.DialRaw()
			if err != nil {
				return err
			}
			defer s.Close()
			sent := make(chan error, 1)
			go func() {
				_, err := io.Copy(s, a.in)
				sent <- errors.Join(err, s.CloseWrite())
			}()
			// The daemon ends the connection when it has answered what was sent.
			_, err = io.Copy(a.out, s.Reader())
			select {
			case serr := <-sent:
				return errors.Join(err, serr)
			default:
				return err
			}
		},
	}
}
