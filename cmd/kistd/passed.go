package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// listenPassed takes over the sockets that systemd has opened (LISTEN_FDS). The one of packets, if there is one, is for whole
// commands: the others are the API's.
func listenPassed(c *config) ([]net.Listener, error) {
	var api []net.Listener
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return api, fmt.Errorf("socket %s from systemd: %w", f.Name(), err)
		}
		if u, ok := l.(*net.UnixListener); ok && l.Addr().Network() == "unixpacket" {
			c.front = u
			continue
		}
		api = append(api, l)
	}
	if len(api) == 0 {
		return nil, errors.New("systemd has passed no socket")
	}
	return api, nil
}
