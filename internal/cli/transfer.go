package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kistdev/kist/internal/client"
)

// copyAnswer writes an answer's body to w.
func (a *app) copyAnswer(cl *client.Client, r *client.Request, w io.Writer) error {
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	m := a.measure("Writing", resp.Length())
	_, err = io.Copy(w, m.reader(resp.Body))
	m.end("Wrote", err)
	if err != nil {
		return errors.Join(lostDaemon(fmt.Errorf("copy the daemon's answer: %w", err)), resp.Body.Close())
	}
	return resp.Body.Close()
}

// saveTo writes a body to a file that appears only when it is whole. Devices and pipes are written directly.
func saveTo(file string, body io.ReadCloser) error {
	defer body.Close()
	if st, err := os.Stat(file); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		return errors.Join(err, f.Close())
	}
	t, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = io.Copy(t, body)
	if err == nil {
		err = t.Chmod(0o600)
	}
	if err = errors.Join(err, t.Close()); err == nil {
		err = os.Rename(t.Name(), file)
	}
	if err != nil {
		return errors.Join(lostDaemon(fmt.Errorf("write %s: %w", file, err)), os.Remove(t.Name()))
	}
	return nil
}
