package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/bootstrap"
	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildkit"
	"github.com/kistdev/kist/internal/fetch"
	"github.com/kistdev/kist/internal/hostinfo"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/treesum"
)

// builds is the part of the daemon that builds.
type builds struct {
	dir     string
	cache   *build.Cache
	runner  *runstep.Runner
	builder *build.Builder
	fetch   *fetch.Store
	server  *buildkit.Server
	bases   *bootstrap.Maker
}

// openBuilds opens what builds images. The cache is opened before, as it keeps layers.
func openBuilds(ctx context.Context, c *config, p *parts) (_ *builds, err error) {
	b := &builds{dir: filepath.Join(c.DataRoot, "build"), cache: p.cache}
	defer func() {
		if err != nil {
			_ = b.close() // The first error says more.
		}
	}()
	facts, err := hostinfo.Probe()
	if err != nil {
		return nil, err
	}
	driver, err := c.cgroupDriver()
	if err != nil {
		return nil, err
	}
	if driver != "" {
		facts.Host.SystemdCgroup = driver == "systemd"
	}
	trees, err := treesum.Open(filepath.Join(b.dir, "stat"))
	if err != nil {
		return nil, fmt.Errorf("open the builder's stat caches: %w", err)
	}
	if b.runner, err = runstep.Open(ctx, runstep.Config{
		Dir: b.dir, ExecDir: filepath.Join(c.ExecRoot, "build"), Layers: p.layers, Tasks: p.tasks, Networks: p.networks,
		Trees: trees, Host: facts.Host, CgroupParent: c.CgroupParent, DeviceDirs: c.CDIDirs,
	}); err != nil {
		return nil, err
	}
	if b.fetch, err = fetch.Open(fetch.Config{Dir: filepath.Join(b.dir, "fetch"), UserAgent: "kist/" + version}); err != nil {
		return nil, err
	}
	if b.builder, err = build.Open(ctx, build.Config{
		Dir: b.dir, Cache: p.cache, Layers: p.layers, Trees: trees, Images: p.images, Events: p.bus,
		Fetch: b.fetch, Commands: b.runner, Mounts: b.runner.Caches(), Version: version,
	}); err != nil {
		return nil, err
	}
	b.server, err = buildkit.New(buildkit.Config{
		Builder: b.builder, Dir: filepath.Join(b.dir, "buildkit"), Platforms: runstep.Platforms, Version: version,
		HostGateway: hostGateway(p.networks), Blobs: blobs{p.images},
	})
	if err != nil {
		return nil, err
	}
	b.bases, err = bootstrap.Open(ctx, bootstrap.Config{
		Dir: filepath.Join(b.dir, "bootstrap"), Layers: p.layers, Images: p.images, Commands: b.runner, UserAgent: "kist/" + version,
	})
	return b, err
}

// blobs are the content store's.
type blobs struct{ images *image.Store }

// Open opens a blob.
func (b blobs) Open(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return b.images.Blob(ctx, d)
}

// hostGateway is the address by which containers reach this machine.
func hostGateway(n *network.Manager) func() string {
	return func() string {
		if n == nil || !n.Gateway().IsValid() {
			return ""
		}
		return n.Gateway().String()
	}
}

func (b *builds) close() error {
	var err error
	if b.server != nil {
		err = b.server.Close()
	}
	if b.builder != nil {
		err = errors.Join(err, b.builder.Close())
	}
	if b.fetch != nil {
		err = errors.Join(err, b.fetch.Close())
	}
	return err
}
