package compose

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	slash "path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
)

// syncAll brings everything that a rule is about.
func (s *stack) syncAll(r *rule) error {
	if r.Target == "" {
		return nil
	}
	var paths []string
	err := filepath.WalkDir(r.Path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != r.Path && !r.mayWant(p) && d.IsDir():
			return fs.SkipDir
		case !d.IsDir() && r.wants(p):
			paths = append(paths, p)
		}
		return nil
	})
	if err != nil || len(paths) == 0 {
		return err
	}
	all, err := s.containers()
	if err != nil {
		return err
	}
	return s.sync(r, all.serving().of(r.service).which((*found).running), paths)
}

// sync brings changed files into containers, and takes away those that are gone.
func (s *stack) sync(r *rule, own fleet, paths []string) error {
	var there, missing []string
	for _, p := range paths {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, r.inContainer(p))
		} else if err != nil {
			return err
		} else {
			there = append(there, p)
		}
	}
	slices.Sort(there)
	return each(s, own, func(c *found) error {
		if len(missing) > 0 {
			said, code, err := s.execute(c.ID, &container.ExecCreateRequest{
				User: "0", Cmd: append([]string{"rm", "-rf", "--"}, missing...), AttachStdout: true, AttachStderr: true,
			})
			if err == nil && code != 0 {
				err = errors.New(oneLine(said))
			}
			if err != nil {
				return fmt.Errorf("remove files: %w", err)
			}
		}
		if len(there) == 0 {
			return nil
		}
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(r.pack(writer, there)) }()
		defer reader.Close()
		err := s.cl.Call(&client.Request{
			Method: "PUT", Path: "/containers/" + url.PathEscape(c.ID) + "/archive", Query: url.Values{"path": {"/"}}, Stream: reader,
		})
		if err != nil {
			return fmt.Errorf("bring files: %w", err)
		}
		return nil
	})
}

// inContainer is where a path of this machine is in the container.
func (r *rule) inContainer(p string) string {
	rel, ok := r.relative(p)
	if !ok || rel == "." {
		return slash.Clean(r.Target)
	}
	return slash.Join(r.Target, filepath.ToSlash(rel))
}

// pack writes files as an archive whose names are those in the container. They are root's, as with COPY.
func (r *rule) pack(w io.Writer, paths []string) error {
	tw := tar.NewWriter(w)
	for _, p := range paths {
		if err := r.packOne(tw, p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return tw.Close()
}

func (r *rule) packOne(tw *tar.Writer, p string) error {
	st, err := os.Lstat(p)
	if err != nil {
		return err
	}
	link := ""
	switch mode := st.Mode(); {
	case mode&fs.ModeSymlink != 0:
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	case !mode.IsRegular() && !mode.IsDir():
		return nil // A socket or a device is nobody's source.
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(r.inContainer(p), "/")
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	if st.IsDir() {
		h.Name += "/"
	}
	if !st.Mode().IsRegular() {
		return tw.WriteHeader(h)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	// It may grow or shrink while it is read: what the header says counts, and the next change brings the rest.
	if now, err := f.Stat(); err == nil {
		h.Size = now.Size()
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyN(tw, f, h.Size)
	if errors.Is(err, io.EOF) {
		_, err = io.CopyN(tw, zeros{}, h.Size-n)
	}
	return err
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
