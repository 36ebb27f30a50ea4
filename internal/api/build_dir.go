package api

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// sentFiles is the directory for what clients send to one build. It is emptied before its first use: what is in it then was
// left by a daemon that died.
type sentFiles struct {
	once sync.Once
	dir  string
	err  error
}

// sentDir makes a directory for a build; the build removes it.
func (s *Server) sentDir(kind string) (string, error) {
	f := &s.sent
	f.once.Do(func() {
		f.dir = filepath.Join(s.BuildDir, "sent")
		if f.err = os.RemoveAll(f.dir); f.err == nil {
			f.err = os.MkdirAll(f.dir, 0o700)
		}
	})
	if f.err != nil {
		return "", fmt.Errorf("directory for what clients send: %w", f.err)
	}
	dir, err := os.MkdirTemp(f.dir, kind+"-")
	if err != nil {
		return "", fmt.Errorf("directory for what a client sends: %w", err)
	}
	return dir, nil
}
