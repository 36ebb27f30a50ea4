package cli

import (
	"net/url"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// The archive of a volume is kist's own addition to the API.
func volumeArchivePath(name string) string { return "/kist" + volumePath(name) + "/archive" }

func (a *app) volumeExportCommand() *cobra.Command {
	var output string
	c := &cobra.Command{Use: "export [OPTIONS] VOLUME", Args: exactly(1)}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write instead of standard output")
	c.RunE = func(_ *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		return a.download(cl, client.Get(volumeArchivePath(args[0]), nil), output)
	}
	return c
}

func (a *app) volumeImportCommand() *cobra.Command {
	var (
		input string
		merge bool
	)
	c := &cobra.Command{Use: "import [OPTIONS] VOLUME", Args: exactly(1)}
	c.Flags().StringVarP(&input, "input", "i", "", "File to read instead of standard input")
	c.Flags().BoolVar(&merge, "merge", false, "Also into a volume that has files, which those of the archive replace")
	c.RunE = func(_ *cobra.Command, args []string) error {
		src, err := a.source(input)
		if err != nil {
			return err
		}
		defer src.Close()
		q := url.Values{}
		if merge {
			q.Set("merge", "1")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		r := &client.Request{Method: "PUT", Path: volumeArchivePath(args[0]), Query: q}
		m := a.measure("Importing", sizeOf(src))
		r.Stream = m.reader(src)
		err = cl.Call(r)
		m.end("Imported", err)
		if err != nil {
			return err
		}
		return a.printLine(args[0])
	}
	return c
}
