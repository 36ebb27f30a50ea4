package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) loadCommand() *cobra.Command {
	var (
		input, progress string
		quiet           bool
		platforms       listFlag
	)
	c := &cobra.Command{Use: "load [OPTIONS]", Args: noArgs}
	c.Flags().StringVarP(&input, "input", "i", "", "File to read instead of standard input")
	c.Flags().StringVar(&progress, "progress", "auto", "How to show progress: auto, plain, json or quiet")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print the images' names only")
	list(c.Flags(), &platforms, "platform", "", "Load only the part for a platform", nil)
	c.RunE = func(*cobra.Command, []string) error {
		style, err := a.progressStyle(progress, quiet)
		if err != nil {
			return err
		}
		src, err := a.source(input)
		if err != nil {
			return err
		}
		defer src.Close()
		q := url.Values{}
		if style == styleQuiet {
			q.Set("quiet", "1")
		}
		if err := addPlatforms(q, "platform", platforms.values); err != nil {
			return err
		}
		return a.upload(&client.Request{Method: "POST", Path: "/images/load", Query: q, Stream: src}, style)
	}
	return c
}

// source opens a file, or standard input, which must not be a terminal.
func (a *app) source(file string) (io.ReadCloser, error) {
	if file != "" && file != "-" {
		return os.Open(file)
	}
	if _, ok := terminalFD(a.in); ok {
		return nil, &hintedError{err: errors.New("an archive is not read from a terminal"), try: "-i FILE, or redirect the input"}
	}
	return io.NopCloser(bufio.NewReaderSize(a.in, 1)), nil
}

// upload sends a stream and shows what the daemon says of it.
func (a *app) upload(r *client.Request, style progressStyle) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	if strings.HasPrefix(resp.Header["content-type"], "application/json") {
		v := a.newProgress(style)
		if err := errors.Join(v.show(resp.Body), resp.Body.Close()); err != nil {
			return err
		}
		return v.totals("Loaded")
	}
	_, err = io.Copy(a.out, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

func (a *app) importCommand() *cobra.Command {
	var (
		changes           listFlag
		message, platform string
	)
	c := &cobra.Command{Use: "import [OPTIONS] FILE|URL|- [NAME[:TAG]]", Args: between(1, 2)}
	list(c.Flags(), &changes, "change", "c", "Apply a Dockerfile instruction to the image", nil)
	c.Flags().StringVarP(&message, "message", "m", "", "Comment to keep with the image")
	c.Flags().StringVar(&platform, "platform", "", "Platform of the image: os/architecture")
	c.RunE = func(_ *cobra.Command, args []string) (err error) {
		q := url.Values{"fromSrc": {"-"}, "message": {message}, "changes": changes.values}
		if platform != "" {
			q.Set("platform", strings.ToLower(platform))
		}
		if len(args) == 2 {
			repo, tag, err := splitTag(args[1])
			if err != nil {
				return err
			}
			q.Set("repo", repo)
			if tag != "" {
				q.Set("tag", tag)
			}
		}
		r := &client.Request{Method: "POST", Path: "/images/create", Query: q}
		m := a.measure("Importing", 0)
		defer func() { m.end("Imported", err) }()
		if strings.HasPrefix(args[0], "http://") || strings.HasPrefix(args[0], "https://") {
			q.Set("fromSrc", args[0])
		} else {
			src, err := a.source(args[0])
			if err != nil {
				return fmt.Errorf("read the archive: %w", err)
			}
			defer src.Close()
			m.expect(sizeOf(src))
			r.Stream = m.reader(src)
		}
		return a.importImage(r, m)
	}
	return c
}

// importImage prints the new image's id, which the daemon sends as the last status.
func (a *app) importImage(r *client.Request, m *meter) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	m.clear()
	v := a.newProgress(stylePlain)
	v.w = a.out
	return errors.Join(v.show(resp.Body), resp.Body.Close())
}
