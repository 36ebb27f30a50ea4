package runstep

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

func cacheMount(id string, sharing pb.CacheSharingOpt, selector string, layers ...digest.Digest) Mount {
	return Mount{
		Mount: &pb.Mount{
			Dest: "/cache", MountType: pb.MountType_CACHE, Output: noOutput, Selector: selector,
			CacheOpt: &pb.CacheOpt{ID: id, Sharing: sharing},
		},
		Source: Source{Layers: layers},
	}
}

func TestCacheSurvives(t *testing.T) {
	w := newWorld(t)
	m := cacheMount("/pip", pb.CacheSharingOpt_SHARED, "")
	made := w.want(w.request("echo 1 >/cache/n; stat -c %a /cache", m), "755\n")
	if got := w.files(made[0]); got != "" {
		t.Error(got)
	}
	w.ok(w.config.Tasks.Close())
	w.open() // the daemon starts again
	w.want(w.request("cat /cache/n", m), "1\n")
	w.want(w.request("ls /cache", cacheMount("/other", pb.CacheSharingOpt_SHARED, "")), "")
	w.leftovers()
}

func TestCacheFrom(t *testing.T) {
	w := newWorld(t)
	l := w.layer("cache/seed", "seed\n", "rest", "x")
	m := cacheMount("/c", pb.CacheSharingOpt_LOCKED, "cache", l)
	w.want(w.request("ls /cache; echo 2 >>/cache/seed", m), "seed\n")
	w.want(w.request("cat /cache/seed", m), "seed\n2\n")
	w.want(w.request("ls /cache", cacheMount("/c", pb.CacheSharingOpt_LOCKED, "cache", l, w.layer("cache/more", "y"))), "more\nseed\n")
}

// together runs steps at the same time, with a network of files in the cache "meet" by which they see each other.
func (w *world) together(m Mount, scripts ...string) []string {
	w.Helper()
	outs := make([]string, len(scripts))
	var g errgroup.Group
	for i, script := range scripts {
		g.Go(func() error {
			out, _, err := w.run(w.request(script, m))
			outs[i] = out
			return err
		})
	}
	w.ok(g.Wait())
	return outs
}

func TestCacheSharing(t *testing.T) {
	w := newWorld(t)
	script := func(name string) string {
		return "touch /cache/" + name + "; i=0; while [ $(ls /cache | wc -l) -lt 2 ] && [ $i -lt 15 ]; do i=$((i+1)); sleep 0.1; done; ls /cache | wc -l"
	}
	outs := w.together(cacheMount("/s", pb.CacheSharingOpt_SHARED, ""), script("a"), script("b"))
	if outs[0] != "2\n" || outs[1] != "2\n" {
		t.Errorf("shared: %q", outs)
	}
	outs = w.together(cacheMount("/p", pb.CacheSharingOpt_PRIVATE, ""), script("a"), script("b"))
	if outs[0] != "1\n" || outs[1] != "1\n" {
		t.Errorf("private: %q", outs)
	}
	locked := "[ ! -e /cache/lock ] || echo both; touch /cache/lock; sleep 0.3; rm /cache/lock"
	outs = w.together(cacheMount("/l", pb.CacheSharingOpt_LOCKED, ""), locked, locked, locked)
	if strings.Join(outs, "") != "" {
		t.Errorf("locked: %q", outs)
	}
}

func TestCacheSaysThatItWaits(t *testing.T) {
	w := newWorld(t)
	m := cacheMount("/l", pb.CacheSharingOpt_LOCKED, "")
	holder := w.request("echo begun; sleep 60", m)
	begun := &first{make(chan struct{})}
	holder.Output = begun
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.runner.Run(ctx, holder)
		done <- err
	}()
	<-begun.seen
	said := make(chan string, 1)
	q := w.request("true", m)
	q.Notice = func(line string) { said <- line }
	short, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	go func() {
		if line := <-said; !strings.Contains(line, "waiting for cache mount l,") {
			t.Error(line)
		}
		stop()
	}()
	if _, err := w.runner.Run(short, q); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	list, err := w.runner.Caches().List(t.Context())
	w.ok(err)
	if len(list) != 1 || !list[0].InUse {
		t.Error(list)
	}
	if _, err := w.runner.Caches().Prune(t.Context(), list[0].Key); !errdefs.IsConflict(err) {
		t.Error(err)
	}
	cancel()
	<-done
	w.leftovers()
}

func TestCacheStore(t *testing.T) {
	w := newWorld(t)
	c := w.runner.Caches()
	m := cacheMount("ns//go/pkg", pb.CacheSharingOpt_SHARED, "")
	w.want(w.request("dd if=/dev/zero of=/cache/big bs=1k count=200 2>/dev/null; mkdir /cache/d; ln -s big /cache/d/l; chmod 700 /cache", m), "")
	list, err := c.List(t.Context())
	w.ok(err)
	if len(list) != 1 || list[0].ID != "ns/go/pkg" || list[0].Size < 200<<10 || list[0].Size > 300<<10 || list[0].InUse || time.Since(list[0].Used) > time.Minute {
		t.Errorf("%+v", list)
	}
	var b bytes.Buffer
	w.ok(c.Export(t.Context(), "ns/go/pkg", &b))
	if err := c.Export(t.Context(), "nosuch", &bytes.Buffer{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	won, err := c.Prune(t.Context(), list[0].Key)
	if err != nil || won < list[0].Size {
		t.Error(won, err)
	}
	w.want(w.request("ls /cache; touch /cache/own", m), "")
	w.ok(c.Import(t.Context(), "ns/go/pkg", &b))
	w.ok(w.config.Tasks.Close())
	w.open()
	w.want(w.request("ls /cache /cache/d; stat -c '%a' /cache; readlink /cache/d/l", m), "/cache:\nbig\nd\n\n/cache/d:\nl\n700\nbig\n")
	list, err = w.runner.Caches().List(t.Context())
	w.ok(err)
	if len(list) != 1 {
		t.Errorf("%+v", list)
	}
	if err := w.runner.Caches().Import(t.Context(), "x", strings.NewReader("no tar")); err == nil {
		t.Error("took nonsense")
	}
	if left, _ := os.ReadDir(w.config.Dir + "/caches/t"); len(left) > 0 {
		t.Error("left", left)
	}
}
