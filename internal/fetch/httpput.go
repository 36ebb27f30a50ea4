package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// FileAttributes are given to a file where it is put.
type FileAttributes struct {
	// Mode is 0600 if it is 0, as docker's.
	Mode     os.FileMode
	UID, GID int
}

// fileName is the wished name, or the server's, or the URL's.
func fileName(wish string, k *kept) string {
	if name := cleanName(wish); name != "" {
		return name
	}
	if _, params, err := mime.ParseMediaType(k.Disposition); err == nil {
		if name := cleanName(params["filename"]); name != "" {
			return name
		}
	}
	if name := cleanName(k.Final); name != "" {
		return name
	}
	if u, err := url.Parse(k.URL); err == nil {
		if name := cleanName(u.Path); name != "" {
			return name
		}
	}
	return "download"
}

// cleanName is the last component of a name that somebody else has made up; empty if that is none.
func cleanName(name string) string {
	name = path.Base(path.Clean("/" + strings.ReplaceAll(name, `\`, "/")))
	if name == "/" || name == "." || name == ".." || len(name) > 255 || strings.ContainsRune(name, 0) {
		return ""
	}
	return name
}

// PutFile puts what was resolved into the directory dir.
func (s *Store) PutFile(ctx context.Context, c *Content, a FileAttributes, dir string) error {
	release, err := s.hold(ctx, c.key)
	if err != nil {
		return err
	}
	defer release()
	body := filepath.Join(s.config.Dir, c.key, "body")
	if k := readKept(filepath.Dir(body)); k == nil || k.Digest != c.Digest {
		return fmt.Errorf("download %s has changed or was removed meanwhile: %w", c.Filename, errdefs.ErrAborted)
	}
	if err := copyFile(body, filepath.Join(dir, c.Filename), a, c.LastModified); err != nil {
		return fmt.Errorf("put download %s: %w", c.Filename, err)
	}
	return nil
}

func copyFile(from, to string, a FileAttributes, modified time.Time) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if a.Mode == 0 {
		a.Mode = 0o600
	}
	if modified.IsZero() {
		modified = time.Unix(0, 0)
	}
	return errors.Join(err, unix.Fchown(int(out.Fd()), a.UID, a.GID), out.Chmod(a.Mode), out.Close(), os.Chtimes(to, modified, modified))
}
