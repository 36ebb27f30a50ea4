package network

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
)

// What a daemon left that died between making a network's link and writing its row, or the other way round, the next one
// mends.
func TestHalfMadeNetworks(t *testing.T) {
	ctx := context.Background()
	l := bareLab(t)
	c := Config{DataDir: t.TempDir()}
	first, err := Open(ctx, c)
	l.ok(err)
	l.m = first
	l.restore()
	id := l.create(network.CreateRequest{Name: "app"})
	b := first.lans[id].link
	_, err = first.extend(b)
	l.ok(err)
	// A link without a row, and a row without its link.
	_, err = makeBridge(first.links, "kist-orphan", first.c.lanAlias(strings.Repeat("e", 64)), randomMAC())
	l.ok(err)
	_, err = makeBridge(first.links, "foreign", "kist network x of other", randomMAC())
	l.ok(err)
	_, err = makeBridge(first.links, "kist-unmarked", "", first.c.linkMAC("kist-unmarked")) // killed before the alias
	l.ok(err)
	l.ok(first.Close())
	l.ok(netlink.LinkDel(l.link(b.name)))

	l.m = l.open(c)
	l.restore()
	l.link(b.name)
	for _, name := range []string{"kist-orphan", "kist-unmarked"} {
		if _, err := netlink.LinkByName(name); !errors.As(err, new(netlink.LinkNotFoundError)) {
			t.Errorf("a bridge without a row, %s: %v", name, err)
		}
	}
	l.link("foreign")
	if n := len(l.m.lans[id].link.parts); n != 2 {
		t.Errorf("%d parts were found", n)
	}
	l.ok(netlink.LinkDel(l.link("foreign")))
}
