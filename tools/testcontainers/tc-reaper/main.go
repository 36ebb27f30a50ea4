// Command tc-reaper is the reaper that testcontainers' libraries start beside their containers, for machines on which the module
// of the original (moby-ryuk) is not to be had: it speaks the same protocol and reads the same variables. Who connects sends
// filters, a line each ("label=a=b&label=c=d"), and reads ACK. When nobody has been connected for a while, it removes what the
// filters name, and ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "reaper:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer docker.Close()
	if _, err := docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	first, err := duration("RYUK_CONNECTION_TIMEOUT", time.Minute)
	if err != nil {
		return err
	}
	later, err := duration("RYUK_RECONNECTION_TIMEOUT", 10*time.Second)
	if err != nil {
		return err
	}
	port := os.Getenv("RYUK_PORT")
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Println("Started!") // What the libraries wait for.
	h := &hall{arrived: make(chan struct{}), left: make(chan struct{})}
	go h.serve(listener)
	h.untilEmpty(first, later)
	return errors.Join(h.reap(ctx, docker), ctx.Err())
}

func duration(name string, otherwise time.Duration) (time.Duration, error) {
	s := os.Getenv(name)
	if s == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// hall is where clients are while they want their containers kept.
type hall struct {
	arrived, left chan struct{}
	mu            sync.Mutex
	doomed        []client.Filters // guarded by mu
}

func (h *hall) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // The listener was closed: the program ends.
		}
		h.arrived <- struct{}{}
		go func() {
			h.receive(conn)
			h.left <- struct{}{}
		}()
	}
}

// receive reads one client's filters until it goes.
func (h *hall) receive(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		query, err := url.ParseQuery(lines.Text())
		if err != nil || len(query) == 0 {
			fmt.Println("no filter:", lines.Text())
			continue
		}
		f := client.Filters{}
		for key, values := range query {
			f.Add(key, values...)
		}
		h.mu.Lock()
		h.doomed = append(h.doomed, f)
		h.mu.Unlock()
		if _, err := conn.Write([]byte("ACK\n")); err != nil {
			return
		}
	}
}

// untilEmpty returns when nobody has come, or when the last one has been gone for long enough.
func (h *hall) untilEmpty(first, later time.Duration) {
	alone := time.NewTimer(first)
	for present := 0; ; {
		select {
		case <-h.arrived:
			present++
			alone.Stop()
		case <-h.left:
			if present--; present == 0 {
				alone.Reset(later)
			}
		case <-alone.C:
			return
		}
	}
}

// reap removes everything that any filter names, containers first, for they hold the rest.
func (h *hall) reap(ctx context.Context, docker *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, f := range h.doomed {
		errs = append(errs, containers(ctx, docker, f), networks(ctx, docker, f), volumes(ctx, docker, f), images(ctx, docker, f))
	}
	return errors.Join(errs...)
}

func containers(ctx context.Context, docker *client.Client, f client.Filters) error {
	list, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: f})
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list.Items {
		if c.Labels["org.testcontainers.ryuk"] == "true" {
			continue // This one.
		}
		_, err := docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		errs = append(errs, gone("container", c.ID, err))
	}
	return errors.Join(errs...)
}

func networks(ctx context.Context, docker *client.Client, f client.Filters) error {
	list, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: f})
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range list.Items {
		_, err := docker.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		errs = append(errs, gone("network", n.Name, err))
	}
	return errors.Join(errs...)
}

func volumes(ctx context.Context, docker *client.Client, f client.Filters) error {
	list, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: f})
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range list.Items {
		_, err := docker.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true})
		errs = append(errs, gone("volume", v.Name, err))
	}
	return errors.Join(errs...)
}

func images(ctx context.Context, docker *client.Client, f client.Filters) error {
	list, err := docker.ImageList(ctx, client.ImageListOptions{Filters: f})
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range list.Items {
		_, err := docker.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		errs = append(errs, gone("image", i.ID, err))
	}
	return errors.Join(errs...)
}

// gone says what was removed; what somebody else has removed is as good.
func gone(kind, name string, err error) error {
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove %s %s: %w", kind, name, err)
	}
	fmt.Println("removed", kind, name)
	return nil
}
