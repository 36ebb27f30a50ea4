package network

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// prepareHost lets the host forward, and lets 127.0.0.1 be translated towards the bridge. Forwarding is never turned off
// again: others may rely on it by then.
func prepareHost(b *bridge) error {
	settings := []sysctl{
		{"/proc/sys/net/ipv4/ip_forward", "1"},
		{"/proc/sys/net/ipv4/conf/" + b.name + "/route_localnet", "1"},
	}
	switch {
	case b.ipv6:
		if err := forward6(); err != nil {
			return err
		}
		settings = append(
			settings,
			sysctl{"/proc/sys/net/ipv6/conf/" + b.name + "/disable_ipv6", "0"},
			sysctl{"/proc/sys/net/ipv6/conf/" + b.name + "/accept_ra", "0"}, // containers are no routers
		)
	case b.own:
		settings = append(settings, sysctl{"/proc/sys/net/ipv6/conf/" + b.name + "/disable_ipv6", "1"})
	}
	return setAll(settings)
}

// sysctl is a file below /proc/sys and what is to be in it.
type sysctl struct{ path, value string }

// setAll writes what is not there already.
func setAll(settings []sysctl) error {
	for _, s := range settings {
		have, err := os.ReadFile(s.path)
		if errors.Is(err, os.ErrNotExist) { // no IPv6
			continue
		}
		if err == nil && string(bytes.TrimSpace(have)) == s.value {
			continue
		}
		if err := writeSysctl(s.path, s.value); err != nil {
			return fmt.Errorf("set %s: %w", s.path, err)
		}
	}
	return nil
}

// forward6 lets the host forward IPv6. A kernel that forwards no longer listens to routers' announcements, from which the
// host may have its own address and route: the interfaces that do are told to go on.
func forward6() error {
	const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
	if have, err := os.ReadFile(forwarding); err == nil && bytes.TrimSpace(have)[0] == '1' {
		return nil
	}
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, f := range files {
		if have, err := os.ReadFile(f); err == nil && string(bytes.TrimSpace(have)) == "1" {
			if err := setAll([]sysctl{{f, "2"}}); err != nil {
				return err
			}
		}
	}
	return setAll([]sysctl{{forwarding, "1"}})
}
