package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/access"
	"github.com/kistdev/kist/internal/api"
	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/desk"
	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/volume"
)

// serve assembles the daemon, tells whoever waits that it is ready, and runs until ctx ends.
func serve(ctx context.Context, c *config) error {
	d, err := assemble(ctx, c)
	if err != nil {
		return err
	}
	defer d.close()
	// Before the others: who finds those finds these.
	narrow, err := listenNarrow(c)
	if err != nil {
		return err
	}
	listeners, err := listen(c)
	if err != nil {
		return err
	}
	for l := range narrow {
		listeners = append(listeners, l)
	}
	whole, err := listenFront(c)
	if err != nil {
		return err
	}
	savings := &thrift{next: d.handler}
	server := &http.Server{
		Handler: savings, ReadHeaderTimeout: 5 * time.Minute,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		BaseContext: func(l net.Listener) context.Context {
			ctx := access.WithSocket(context.Background(), nameOf(l.Addr()))
			if to := narrow[l]; to != nil {
				ctx = api.Limit(ctx, to)
			}
			return ctx
		},
	}
	commands := desk.New(d.engine, savings.awake)
	calls, err := openCalls(c)
	if err != nil {
		return err
	}
	if calls != nil {
		defer func() { _ = calls.Close() }()
		server.Handler = calls.Handler(savings, c.AccessLog == accessAll)
		server.ConnContext = access.WithPeer
		commands.Noted = noteCommands(calls)
	}
	var g errgroup.Group
	for _, l := range listeners {
		g.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	if whole != nil {
		g.Go(func() error { return commands.Serve(whole) })
	}
	slog.Info("ready", "version", version, "sockets", c.Hosts)
	tellReady()
	stop := context.AfterFunc(ctx, func() {
		// Requests under way get a moment; streams never end by themselves and are cut.
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if whole != nil {
			_ = whole.Close()
		}
		commands.Close()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	defer stop()
	return g.Wait()
}

// openCalls opens the log of who called what; nil without one.
func openCalls(c *config) (*access.Log, error) {
	if c.AccessLog == accessOff {
		return nil, nil
	}
	return access.Open(access.Options{Path: filepath.Join(c.DataRoot, "access.log")})
}

// noteCommands notes whole commands, which come by no request.
func noteCommands(l *access.Log) func(conn net.Conn, verb, path string) {
	return func(conn net.Conn, verb, path string) {
		l.Note(access.NewPeer(conn), access.Call{
			Time: time.Now(), Socket: nameOf(conn.LocalAddr()), Method: verb, Path: path, Status: http.StatusCreated,
		})
	}
}

// tellReady tells the command that started this daemon (a descriptor number in KIST_READY_FD) and systemd.
func tellReady() {
	if fd, err := strconv.Atoi(os.Getenv("KIST_READY_FD")); err == nil {
		f := os.NewFile(uintptr(fd), "ready")
		_, _ = f.Write([]byte{1}) // Whoever waited may have given up.
		_ = f.Close()
		_ = os.Unsetenv("KIST_READY_FD")
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
}

// parts is the assembled daemon.
type parts struct {
	engine  *engine.Engine
	handler http.Handler
	closers []func() error
}

func (p *parts) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](); err != nil {
			slog.Error("close", "error", err)
		}
	}
}

// assemble opens everything, side by side where nothing depends on it.
func assemble(ctx context.Context, c *config) (_ *parts, err error) {
	p := new(parts)
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	bus := new(event.Bus)
	var (
		eng      *engine.Engine
		layers   *layer.Store
		images   *image.Store
		networks *network.Manager
		volumes  *volume.Store
		tasks    *task.Client
		initPath string
		cache    *build.Cache
		maker    *builds
	)
	driver, err := c.cgroupDriver()
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.Go(func() (err error) {
		if layers, err = layer.Open(filepath.Join(c.DataRoot, "layers")); err != nil {
			return err
		}
		if cache, err = build.OpenCache(filepath.Join(c.DataRoot, "build.db")); err != nil {
			return err
		}
		images, err = image.Open(image.Options{
			Dir: filepath.Join(c.DataRoot, "content"), Layers: layers, Events: bus,
			InUse: func() map[digest.Digest][]string {
				if eng == nil {
					return nil
				}
				return eng.ImagesInUse()
			},
			Keep:     cache.Layers,
			Insecure: c.Insecure, Mirrors: c.Mirrors, UserAgent: "kist/" + version,
			CertDirs: certDirs(),
		})
		return err
	})
	g.Go(func() (err error) {
		networks, err = openNetworks(ctx, c, bus)
		return err
	})
	g.Go(func() (err error) {
		volumes, err = volume.Open(filepath.Join(c.DataRoot, "volumes"), bus)
		return err
	})
	g.Go(func() (err error) {
		tasks, err = openKeeper(ctx, c)
		return err
	})
	g.Go(func() (err error) {
		initPath, err = writeInit(c)
		return err
	})
	err = g.Wait()
	if layers != nil {
		p.closers = append(p.closers, layers.Close)
	}
	if cache != nil {
		p.closers = append(p.closers, cache.Close)
	}
	if volumes != nil {
		p.closers = append(p.closers, volumes.Close)
	}
	if networks != nil {
		p.closers = append(p.closers, networks.Close)
	}
	if tasks != nil {
		p.closers = append(p.closers, tasks.Close)
	}
	if err != nil {
		return nil, err
	}
	eng, err = engine.Open(ctx, engine.Config{
		DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, Version: version,
		CgroupParent: c.CgroupParent, CgroupDriver: driver, InitPath: initPath,
		LogDriver: c.LogDriver, LogOpts: c.LogOpts, Insecure: c.Insecure, Mirrors: c.Mirrors, Labels: c.Labels, DeviceDirs: c.CDIDirs,
		Tasks: tasks, Images: images, Layers: layers, Networks: networks, Volumes: volumes, Events: bus,
	})
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, eng.Close)
	p.engine = eng
	maker, err = openBuilds(ctx, c, buildParts{cache, layers, images, tasks, networks, bus})
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, maker.close)
	mover, err := moverOf(c, eng, layers, images, networks, volumes)
	if err != nil {
		return nil, err
	}
	p.handler = api.New(api.Config{
		Containers: eng, Host: eng, Images: images, Networks: networks, Volumes: volumes, Events: bus,
		Version: version, Commit: commit, Debug: c.level() == slog.LevelDebug,
		Builder: maker.builder, BuildKit: maker.server, BuildDir: maker.dir, CacheMounts: maker.runner.Caches(), Bootstrap: maker.bases, HostGateway: hostGateway(networks),
		Mover: mover, Keeper: tasks.Use,
	})
	return p, nil
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
