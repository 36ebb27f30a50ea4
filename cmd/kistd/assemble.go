package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/api"
	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/volume"
)

// parts is the daemon: what it is made of, and in the end what it answers with.
type parts struct {
	bus      *event.Bus
	layers   *layer.Store
	cache    *build.Cache
	images   *image.Store
	networks *network.Manager
	volumes  *volume.Store
	tasks    *task.Client
	init     string // path of the program for --init
	engine   *engine.Engine
	handler  http.Handler
	closers  []func() error
}

func (p *parts) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](); err != nil {
			slog.Error("close", "error", err)
		}
	}
}

// assemble makes the daemon, from the stores up.
func assemble(ctx context.Context, c *config) (_ *parts, err error) {
	p := &parts{bus: new(event.Bus)}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	driver, err := c.cgroupDriver()
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx, c); err != nil {
		return nil, err
	}
	if err := p.openEngine(ctx, c, driver); err != nil {
		return nil, err
	}
	if err := p.openAPI(ctx, c); err != nil {
		return nil, err
	}
	return p, nil
}

// open opens what does not depend on each other, side by side.
func (p *parts) open(ctx context.Context, c *config) error {
	var g errgroup.Group
	g.Go(func() error { return p.openImages(c) })
	g.Go(func() (err error) {
		p.networks, err = openNetworks(ctx, c, p.bus)
		return err
	})
	g.Go(func() (err error) {
		p.volumes, err = volume.Open(filepath.Join(c.DataRoot, "volumes"), p.bus)
		return err
	})
	g.Go(func() (err error) {
		p.tasks, err = openKeeper(ctx, c)
		return err
	})
	g.Go(func() (err error) {
		p.init, err = writeInit(c)
		return err
	})
	err := g.Wait()
	if p.layers != nil {
		p.closers = append(p.closers, p.layers.Close)
	}
	if p.cache != nil {
		p.closers = append(p.closers, p.cache.Close)
	}
	if p.volumes != nil {
		p.closers = append(p.closers, p.volumes.Close)
	}
	if p.networks != nil {
		p.closers = append(p.closers, p.networks.Close)
	}
	if p.tasks != nil {
		p.closers = append(p.closers, p.tasks.Close)
	}
	return err
}

// openImages opens the layers and what keeps them: the builds' cache and the images.
func (p *parts) openImages(c *config) (err error) {
	if p.layers, err = layer.Open(filepath.Join(c.DataRoot, "layers")); err != nil {
		return err
	}
	if p.cache, err = build.OpenCache(filepath.Join(c.DataRoot, "build.db")); err != nil {
		return err
	}
	p.images, err = image.Open(image.Options{
		Dir: filepath.Join(c.DataRoot, "content"), Layers: p.layers, Events: p.bus,
		InUse: func() map[digest.Digest][]string {
			if p.engine == nil {
				return nil
			}
			return p.engine.ImagesInUse()
		},
		Keep:     p.cache.Layers,
		Insecure: c.Insecure, Mirrors: c.Mirrors, UserAgent: "kist/" + version,
		CertDirs: certDirs(),
	})
	return err
}

func (p *parts) openEngine(ctx context.Context, c *config, driver string) (err error) {
	p.engine, err = engine.Open(ctx, engine.Config{
		DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, Version: version,
		CgroupParent: c.CgroupParent, CgroupDriver: driver, InitPath: p.init,
		LogDriver: c.LogDriver, LogOpts: c.LogOpts, Insecure: c.Insecure, Mirrors: c.Mirrors, Labels: c.Labels, DeviceDirs: c.CDIDirs,
		Tasks: p.tasks, Images: p.images, Layers: p.layers, Networks: p.networks, Volumes: p.volumes, Events: p.bus,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.engine.Close)
	return nil
}

// openAPI opens what builds and moves, and puts the API before all of it.
func (p *parts) openAPI(ctx context.Context, c *config) error {
	maker, err := openBuilds(ctx, c, p)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, maker.close)
	mover, err := moverOf(c, p)
	if err != nil {
		return err
	}
	p.handler = api.New(api.Config{
		Containers: p.engine, Host: p.engine, Images: p.images, Networks: p.networks, Volumes: p.volumes, Events: p.bus,
		Version: version, Commit: commit, Debug: c.level() == slog.LevelDebug,
		Builder: maker.builder, BuildKit: maker.server, BuildDir: maker.dir, CacheMounts: maker.runner.Caches(), Bootstrap: maker.bases, HostGateway: hostGateway(p.networks),
		Mover: mover, Keeper: p.tasks.Use,
	})
	return nil
}

func openNetworks(ctx context.Context, c *config, bus *event.Bus) (*network.Manager, error) {
	var bip netip.Prefix
	if c.BIP != "" {
		bip = netip.MustParsePrefix(c.BIP) // Checked by config.complete.
	}
	return network.Open(ctx, network.Config{
		Instance: c.instance(), Bridge: c.Bridge, BIP: bip, Disabled: c.Bridge == "none",
		StateDir: filepath.Join(c.ExecRoot, "network"), DataDir: filepath.Join(c.DataRoot, "networks"), Events: bus,
	})
}

// teardown removes what a daemon leaves on the host on purpose when it ends: bridge, addresses and firewall rules, which
// running containers need. claim has made sure that no daemon runs.
func teardown(ctx context.Context, c *config) error {
	networks, err := openNetworks(ctx, c, nil)
	if err != nil {
		return err
	}
	return errors.Join(networks.Teardown(ctx), networks.Close())
}

// openKeeper finds the program that plays the keeper: the kist beside this kistd.
func openKeeper(ctx context.Context, c *config) (*task.Client, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	kist := filepath.Join(filepath.Dir(self), "kist")
	if _, err := os.Stat(kist); err != nil {
		return nil, fmt.Errorf("the keeper's program is missing: %w; kist and kistd belong into one directory", err)
	}
	dir := filepath.Join(c.ExecRoot, "keeper")
	return task.Open(ctx, task.Config{Dir: dir, Command: []string{kist, "keeper", "--dir", dir}})
}

// writeInit puts the program for --init below the data root: the exec root may be mounted noexec. It returns an empty
// path where this architecture has none.
func writeInit(c *config) (string, error) {
	program, err := runtime.InitProgram()
	if err != nil {
		return "", nil //nolint:nilerr // --init is refused by name then
	}
	path := filepath.Join(c.DataRoot, "docker-init")
	tmp := path + ".new"
	if err := os.WriteFile(tmp, program, 0o755); err != nil {
		return "", fmt.Errorf("write the init program: %w", err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}
