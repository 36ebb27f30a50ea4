package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/access"
	"github.com/kistdev/kist/internal/api"
	"github.com/kistdev/kist/internal/desk"
	"github.com/kistdev/kist/internal/scope"
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
	server := newServer(savings, narrow)
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

// newServer makes the server of all sockets; a request knows which one it came by, and what that one allows.
func newServer(h http.Handler, narrow map[net.Listener]*scope.Scope) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Minute,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		BaseContext: func(l net.Listener) context.Context {
			ctx := access.WithSocket(context.Background(), nameOf(l.Addr()))
			if to := narrow[l]; to != nil {
				ctx = api.Limit(ctx, to)
			}
			return ctx
		},
	}
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
