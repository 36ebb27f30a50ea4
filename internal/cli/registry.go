package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/servemsg"
)

func (a *app) registryServeCommand() *cobra.Command {
	var (
		req                  servemsg.Request
		cert, key, passwords string
		quiet                bool
	)
	c := &cobra.Command{Use: "serve [OPTIONS]", Args: noArgs}
	c.Flags().StringVar(&req.Address, "addr", "127.0.0.1:5000", "Address to listen on: HOST:PORT")
	c.Flags().BoolVar(&req.ReadOnly, "read-only", false, "Let others pull, and nobody push")
	c.Flags().BoolVar(&req.Open, "anyone-may-push", false, "Let everybody push who reaches an address beyond this machine")
	c.Flags().StringVar(&cert, "tls-cert", "", "Certificate to speak TLS with (PEM)")
	c.Flags().StringVar(&key, "tls-key", "", "The certificate's key (PEM)")
	c.Flags().StringVar(&passwords, "htpasswd", "", "File of those who may in, as htpasswd -B writes it")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Do not say who pulls and pushes")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if (cert == "") != (key == "") {
			return usageError(cmd, "--tls-cert and --tls-key belong together")
		}
		for _, f := range []struct {
			path string
			into *[]byte
		}{{cert, &req.Cert}, {key, &req.Key}, {passwords, &req.Htpasswd}} {
			if f.path == "" {
				continue
			}
			raw, err := os.ReadFile(f.path)
			if err != nil {
				return err
			}
			*f.into = raw
		}
		return a.registryServe(&req, quiet)
	}
	return c
}

// registryServe shows the registry's life until it ends.
func (a *app) registryServe(req *servemsg.Request, quiet bool) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	r, err := client.PostJSON("/kist/registry/serve", nil, *req)
	if err != nil {
		return err
	}
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var l servemsg.Line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return ended(err)
		}
		switch {
		case l.Address != "":
			a.note(registryGreeting(req, &l))
		case l.Event != nil && !quiet:
			if err := a.printLine(stripControl(registryLine(l.Event))); err != nil {
				return err
			}
		}
	}
}

// registryGreeting says where the registry is, who can reach it, and how to use it.
func registryGreeting(req *servemsg.Request, l *servemsg.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "serving %s on %s (%s)\n", plural(l.Images, "image"), l.Address, registryReach(req, l.Address))
	fmt.Fprintf(&b, "pull:  kist pull %s/NAME:TAG\n", l.Address)
	if !req.ReadOnly {
		fmt.Fprintf(&b, "push:  kist push %s/NAME:TAG    (it is the image NAME:TAG here)\n", l.Address)
	}
	if host, _, err := net.SplitHostPort(l.Address); err == nil && len(req.Cert) == 0 && !isLoopback(host) {
		b.WriteString("no TLS: other machines must list the address as an insecure registry")
		if len(req.Htpasswd) > 0 {
			b.WriteString(", and passwords travel in the open")
		}
		b.WriteString("\n")
	}
	b.WriteString("ctrl-c ends it")
	return b.String()
}

// registryReach says who can reach the registry, and what they may do.
func registryReach(req *servemsg.Request, addr string) string {
	who := "whoever reaches this machine there"
	if host, _, err := net.SplitHostPort(addr); err == nil && isLoopback(host) {
		who = "this machine only"
	}
	if len(req.Htpasswd) > 0 {
		who += ", with a password"
	}
	if req.ReadOnly {
		return who + ", reading only"
	}
	return who
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func registryLine(e *servemsg.Event) string {
	who := e.From
	if e.User != "" {
		who = e.User + "@" + who
	}
	s := fmt.Sprintf("%-7s %s", e.Action, e.Name)
	if len(e.Digest) > 19 && !strings.Contains(e.Name, "@") {
		s += " " + e.Digest[:19]
	}
	s += " by " + who
	if agent, _, _ := strings.Cut(e.Agent, " "); agent != "" {
		s += " (" + agent + ")"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
