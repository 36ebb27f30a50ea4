package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/registry"
)

// reachTime bounds the way to a registry.
const reachTime = 5 * time.Second

// registries asks the configured mirrors and insecure registries whether they are there. Others are not asked: doctor calls
// nobody whom the host's owner has not named.
func registries(ctx context.Context, h *host) []Finding {
	c, err := registry.New(registry.Options{Insecure: h.Insecure, Mirrors: h.Mirrors, CertDirs: h.CertDirs, UserAgent: "kist/" + h.Version})
	if err != nil {
		return []Finding{fail("configuration", err.Error(), "correct registry-mirrors or insecure-registries in the configuration")}
	}
	names := slices.Clone(h.Mirrors)
	for _, i := range h.Insecure {
		if !strings.Contains(i, "/") { // a network is no host
			names = append(names, i)
		}
	}
	if len(names) == 0 {
		return []Finding{ok("mirrors", "none is configured; docker.io was not asked")}
	}
	list := make([]Finding, len(names))
	var g sync.WaitGroup
	for i, name := range names {
		g.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reachTime)
			defer cancel()
			list[i] = reached(name, c.Ping(ctx, name))
		})
	}
	g.Wait()
	return list
}

func reached(name string, err error) Finding {
	if err == nil {
		return ok(name, "answers")
	}
	// A mirror that is down is passed by; it is no reason to say that kist does not work here.
	f := warn(name, fmt.Sprintf("cannot be reached: %v", err), "curl -v that address")
	if x, isFault := fault.As(err); isFault {
		f.Text = x.What
		if x.Cause != "" {
			f.Text += ": " + x.Cause
		}
		if x.Try != "" {
			f.Try = x.Try
		}
	}
	return f
}
