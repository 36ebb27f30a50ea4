package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

type cpFlags struct {
	archive, follow, quiet bool
}

func (a *app) cpCommand() *cobra.Command {
	var f cpFlags
	c := &cobra.Command{Use: "cp [OPTIONS] CONTAINER:PATH PATH|- | PATH|- CONTAINER:PATH", Args: exactly(2)}
	c.Flags().BoolVarP(&f.archive, "archive", "a", false, "Keep owners")
	c.Flags().BoolVarP(&f.follow, "follow-link", "L", false, "Copy what a symbolic link names, not the link")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "Do not say how much was copied")
	c.RunE = func(c *cobra.Command, args []string) error {
		from, src := splitContainerPath(args[0])
		to, dst := splitContainerPath(args[1])
		switch {
		case from != "" && to != "":
			return &hintedError{
				err: errors.New("copying between containers is not supported"), code: "bad-usage",
				try: "kist cp " + args[0] + " - | kist cp - " + to + ":DIRECTORY",
			}
		case from == "" && to == "":
			return usageError(c, "one of the two must be in a container: CONTAINER:PATH")
		case src == "" || dst == "":
			return usageError(c, "a path cannot be empty")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		var n int64
		name := from
		if from != "" {
			n, err = a.copyFrom(cl, &f, from, src, dst)
		} else {
			name = to
			n, err = a.copyTo(cl, &f, src, to, dst)
		}
		if err != nil {
			return a.hintContainer(cl, name, err)
		}
		if _, terminal := terminalFD(a.err); terminal && !f.quiet && dst != "-" {
			a.note("Copied " + units.HumanSize(float64(n)) + " to " + args[1])
		}
		return nil
	}
	return c
}

// splitContainerPath takes CONTAINER:PATH apart; a path of this machine has no container.
func splitContainerPath(s string) (name, p string) {
	if filepath.IsAbs(s) {
		return "", s
	}
	name, p, ok := strings.Cut(s, ":")
	if !ok || strings.HasPrefix(name, ".") || strings.Contains(name, "/") {
		return "", s
	}
	return name, p
}

func archiveRequest(method, name, p string) *client.Request {
	return &client.Request{Method: method, Path: containerPath(name, "/archive"), Query: url.Values{"path": {p}}}
}

// statHeader is the field that tells what a path in a container is.
const statHeader = "x-docker-container-path-stat"

// errNoPath says that a path is not in a container that is there.
var errNoPath = fmt.Errorf("no such path: %w", errdefs.ErrNotFound)

// statPath asks what a path in a container is.
func statPath(cl *client.Client, name, p string) (*container.PathStat, error) {
	resp, err := cl.Do(archiveRequest("HEAD", name, p))
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status == 404 {
		// The answer to HEAD has no body, and so no reason; the container itself may be what is missing.
		if err := cl.Call(client.Get(containerPath(name, "/json"), nil)); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("there is no %s in the container%w", p, quiet{errNoPath})
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return decodeStat(resp.Header[statHeader])
}

func decodeStat(field string) (*container.PathStat, error) {
	b, err := base64.StdEncoding.DecodeString(field)
	if err != nil {
		return nil, fmt.Errorf("decode what the path is: %w", err)
	}
	var st container.PathStat
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("decode what the path is: %w", err)
	}
	return &st, nil
}

// copyFrom copies out of a container.
func (a *app) copyFrom(cl *client.Client, f *cpFlags, name, src, dst string) (int64, error) {
	if f.follow {
		var err error
		if src, err = followLink(cl, name, src); err != nil {
			return 0, err
		}
	}
	resp, err := cl.Do(archiveRequest("GET", name, src))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if dst == "-" {
		if _, ok := terminalFD(a.out); ok {
			return 0, &hintedError{err: errors.New("an archive is not written to a terminal"), try: "redirect the output"}
		}
		n, err := io.Copy(a.out, resp.Body)
		return n, lostDaemon(err)
	}
	st, err := decodeStat(resp.Header[statHeader])
	if err != nil {
		return 0, err
	}
	target, err := localTarget(st, src, dst)
	if err != nil {
		return 0, err
	}
	m := a.measure("Copying", 0)
	n, err := unpack(m.reader(resp.Body), target, f.archive)
	m.end("", err)
	return n, lostDaemon(err)
}

// followLink returns what a symbolic link in a container names.
func followLink(cl *client.Client, name, p string) (string, error) {
	st, err := statPath(cl, name, p)
	if err != nil {
		return "", err
	}
	if st.Mode&os.ModeSymlink == 0 || st.LinkTarget == "" {
		return p, nil
	}
	if path.IsAbs(st.LinkTarget) {
		return st.LinkTarget, nil
	}
	return path.Join(path.Dir(p), st.LinkTarget), nil
}

// localTarget is where the copied object goes on this machine: the path itself, or inside of it where it is a directory.
func localTarget(st *container.PathStat, src, dst string) (string, error) {
	isDir := st.Mode.IsDir()
	asDir := strings.HasSuffix(dst, "/") || strings.HasSuffix(dst, "/.") || dst == "."
	local, err := os.Stat(dst)
	switch {
	case err == nil && local.IsDir():
		if isDir && contentsOnly(src) {
			return filepath.Clean(dst), nil // with a slash at its end, Dir and Base would both be the directory
		}
		return filepath.Join(dst, filepath.Base(st.Name)), nil
	case err == nil && isDir:
		return "", fmt.Errorf("cannot copy a directory over the file %s", dst)
	case err == nil && asDir:
		return "", fmt.Errorf("%s is not a directory", dst)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", err
	case err != nil && !isDir && asDir:
		return "", noDirectory(dst)
	}
	parent := filepath.Dir(filepath.Clean(dst))
	if st, err := os.Stat(parent); err != nil || !st.IsDir() {
		return "", noDirectory(parent)
	}
	return filepath.Clean(dst), nil
}

// noDirectory is the error of a directory on this machine that would be copied into.
func noDirectory(dir string) error {
	return &hintedError{err: fmt.Errorf("there is no directory %s", dir), try: "mkdir -p " + dir, code: "file-not-found"}
}

// contentsOnly tells that a path means a directory's contents, not the directory.
func contentsOnly(p string) bool { return strings.HasSuffix(p, "/.") || p == "." }

// copyTo copies into a container.
func (a *app) copyTo(cl *client.Client, f *cpFlags, src, name, dst string) (int64, error) {
	put := func(dir string, body io.Reader) error {
		r := archiveRequest("PUT", name, dir)
		r.Query.Set("noOverwriteDirNonDir", "true")
		if f.archive {
			r.Query.Set("copyUIDGID", "true")
		}
		r.Stream = body
		return cl.Call(r)
	}
	if src == "-" {
		st, err := statPath(cl, name, dst)
		if errors.Is(err, errNoPath) {
			err = &hintedError{err: err, try: "kist exec " + name + " mkdir -p " + dst, code: "path-not-in-container"}
		}
		if err != nil {
			return 0, err
		}
		if !st.Mode.IsDir() && st.Mode&os.ModeSymlink == 0 {
			return 0, fmt.Errorf("%s:%s must be a directory to unpack an archive into", name, dst)
		}
		body := &counter{r: a.in}
		m := a.measure("Copying", 0)
		err = put(dst, m.reader(body))
		m.end("", err)
		return body.n, err
	}
	if f.follow {
		resolved, err := filepath.EvalSymlinks(src)
		if err != nil {
			return 0, err
		}
		if contentsOnly(src) {
			resolved += "/."
		}
		src = resolved
	}
	info, err := os.Lstat(src)
	if err != nil {
		return 0, err
	}
	dir, base, err := containerTarget(cl, name, dst, src, info.IsDir())
	if err != nil {
		return 0, err
	}
	r, w := io.Pipe()
	var n int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		n, err = pack(w, src, base)
		w.CloseWithError(err)
	}()
	m := a.measure("Copying", 0)
	err = put(dir, m.reader(r))
	m.end("", err)
	r.Close()
	<-done
	return n, err
}

// containerTarget is the directory in the container to unpack into, and the copied object's name there.
func containerTarget(cl *client.Client, name, dst, src string, isDir bool) (dir, base string, err error) {
	dst = "/" + strings.TrimPrefix(dst, "/")
	asDir := strings.HasSuffix(dst, "/") || strings.HasSuffix(dst, "/.")
	abs, err := filepath.Abs(src)
	if err != nil {
		return "", "", err
	}
	resolved, err := followLink(cl, name, dst)
	if err == nil {
		dst = resolved
		var st *container.PathStat
		if st, err = statPath(cl, name, dst); err == nil {
			switch {
			case st.Mode.IsDir() && isDir && contentsOnly(src):
				return dst, ".", nil
			case st.Mode.IsDir():
				return dst, filepath.Base(abs), nil
			case isDir:
				return "", "", fmt.Errorf("cannot copy a directory over the file %s:%s", name, dst)
			case asDir:
				return "", "", fmt.Errorf("%s:%s is not a directory", name, dst)
			}
			return path.Dir(path.Clean(dst)), path.Base(path.Clean(dst)), nil
		}
	}
	if !errors.Is(err, errdefs.ErrNotFound) {
		return "", "", err
	}
	var refused *client.Error
	if errors.As(err, &refused) {
		return "", "", err // it is the container that does not exist
	}
	if asDir && !isDir {
		return "", "", &hintedError{
			err: fmt.Errorf("there is no directory %s:%s", name, dst), try: "kist exec " + name + " mkdir -p " + dst, code: "path-not-in-container",
		}
	}
	clean := path.Clean(dst)
	return path.Dir(clean), path.Base(clean), nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
