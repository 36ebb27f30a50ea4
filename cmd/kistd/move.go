package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kistdev/kist/internal/move"
)

// moverOf is the part of the daemon that moves things to others.
func moverOf(c *config, p *parts) (*move.Mover, error) {
	dir := filepath.Join(c.DataRoot, "move")
	store, err := storeName(dir)
	if err != nil {
		return nil, err
	}
	m := &move.Mover{Images: p.images, Layers: p.layers, Volumes: p.volumes, Containers: p.engine, Networks: p.networks, Dir: dir, Version: version, Store: store}
	return m, m.Tidy()
}

// storeName tells this store from all others: a word that was drawn by lot when it was made.
func storeName(dir string) (string, error) {
	path := filepath.Join(dir, "store")
	raw, err := os.ReadFile(path)
	if err == nil && len(raw) > 0 {
		return string(raw), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the store's name: %w", err)
	}
	name := strings.ToLower(rand.Text())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write the store's name: %w", err)
	}
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		return "", fmt.Errorf("write the store's name: %w", err)
	}
	return name, nil
}
