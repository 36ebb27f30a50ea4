package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kistdev/kist/internal/scope"
)

// socketConfig is a socket of narrower scope: an entry of "sockets" in the configuration file, or one --socket.
type socketConfig struct {
	Path     string   `json:"path"`
	ReadOnly bool     `json:"read-only"`
	Project  string   `json:"project"`
	Binds    []string `json:"binds"`
	Subnets  []string `json:"subnets"`
	NoPull   bool     `json:"no-pull"`
	// User and Group own the socket, Mode is in octal digits.
	User  string `json:"user"`
	Group string `json:"group"`
	Mode  string `json:"mode"`
}

// socketFlag reads --socket path=/run/kist/read.sock,read-only,group=dev.
type socketFlag struct{ list *[]socketConfig }

// String is what pflag shows as the default.
func (f socketFlag) String() string { return "" }

// Type is what pflag shows as the value.
func (f socketFlag) Type() string { return "SPEC" }

// Set adds a socket.
func (f socketFlag) Set(text string) error {
	var s socketConfig
	for word := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "path":
			s.Path = value
		case "read-only":
			s.ReadOnly = true
		case "no-pull":
			s.NoPull = true
		case "project":
			s.Project = value
		case "bind":
			s.Binds = append(s.Binds, value)
		case "subnet":
			s.Subnets = append(s.Subnets, value)
		case "user":
			s.User = value
		case "group":
			s.Group = value
		case "mode":
			s.Mode = value
		default:
			return fmt.Errorf("unknown word %q: want path=PATH, read-only, project=NAME, bind=PATH[:ro], subnet=SUBNET, no-pull, user=, group= or mode=", key)
		}
	}
	*f.list = append(*f.list, s)
	return nil
}

// UnmarshalJSON refuses keys that it does not know: a mistyped read-only must not open a whole socket.
func (s *socketConfig) UnmarshalJSON(raw []byte) error {
	type plain socketConfig
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode((*plain)(s))
}

// scope checks what the socket allows.
func (s *socketConfig) scope() (*scope.Scope, error) {
	o := scope.Options{Socket: s.Path, ReadOnly: s.ReadOnly, Project: s.Project, Binds: s.Binds, NoPull: s.NoPull}
	if !filepath.IsAbs(s.Path) {
		return nil, badSetting("socket %q: want the whole path", s.Path)
	}
	for _, text := range s.Subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, badSetting("socket %s: subnet: %v", s.Path, err)
		}
		o.Subnets = append(o.Subnets, p.Masked())
	}
	to, err := scope.New(o)
	if err != nil {
		return nil, badSetting("socket %s: %v", s.Path, err)
	}
	return to, nil
}

// belongings are owner, group and mode of a socket's file; the zero value is root's own, and its group's.
type belongings struct {
	uid   int
	group string
	mode  uint32
}

func (s *socketConfig) belongings(group string) (belongings, error) {
	b := belongings{group: group}
	if s.Group != "" {
		b.group = s.Group
	}
	if s.User != "" {
		u, err := user.Lookup(s.User)
		if err != nil {
			u, err = user.LookupId(s.User)
		}
		if err != nil {
			return b, badSetting("socket %s: user: %v", s.Path, err)
		}
		if b.uid, err = strconv.Atoi(u.Uid); err != nil {
			return b, badSetting("socket %s: user: %v", s.Path, err)
		}
	}
	if s.Mode != "" {
		mode, err := strconv.ParseUint(s.Mode, 8, 12)
		if err != nil || mode&^0o666 != 0 {
			return b, badSetting("socket %s: mode %q: want octal digits, as 0660", s.Path, s.Mode)
		}
		b.mode = uint32(mode)
	}
	return b, nil
}

// listenNarrow opens the sockets of narrower scope, or none.
func listenNarrow(c *config) (_ map[net.Listener]*scope.Scope, err error) {
	all := map[net.Listener]*scope.Scope{}
	defer func() {
		if err != nil {
			for l := range all {
				_ = l.Close()
			}
		}
	}()
	for i := range c.Sockets {
		s := &c.Sockets[i]
		to, err := s.scope()
		if err != nil {
			return nil, err
		}
		b, err := s.belongings(c.Group)
		if err != nil {
			return nil, err
		}
		l, err := listenAs("unix", s.Path, b)
		if err != nil {
			return nil, listenFault("unix://"+s.Path, err)
		}
		all[l] = to
	}
	return all, nil
}
