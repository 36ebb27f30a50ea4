package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/cdi"
)

// config is what dockerd's flags and its configuration file (daemon.json) are read into; the JSON keys are dockerd's.
type config struct {
	DataRoot     string            `json:"data-root"`
	ExecRoot     string            `json:"exec-root"`
	Hosts        []string          `json:"hosts"`
	Group        string            `json:"group"`
	PidFile      string            `json:"pidfile"`
	LogLevel     string            `json:"log-level"`
	Debug        bool              `json:"debug"`
	LogDriver    string            `json:"log-driver"`
	LogOpts      map[string]string `json:"log-opts"`
	Insecure     []string          `json:"insecure-registries"`
	Mirrors      []string          `json:"registry-mirrors"`
	BIP          string            `json:"bip"`
	Bridge       string            `json:"bridge"`
	CgroupParent string            `json:"cgroup-parent"`
	ExecOpts     []string          `json:"exec-opts"`
	Labels       []string          `json:"labels"`
	CDIDirs      []string          `json:"cdi-spec-dirs"`
	// Features are dockerd's switches; only cdi switches anything here.
	Features  map[string]bool `json:"features"`
	TLS       bool            `json:"tls"`
	TLSVerify bool            `json:"tlsverify"`
	TLSCACert string          `json:"tlscacert"`
	TLSCert   string          `json:"tlscert"`
	TLSKey    string          `json:"tlskey"`
	Sockets   []socketConfig  `json:"sockets"`
	AccessLog string          `json:"access-log"`

	// front is the socket for whole commands, if systemd has passed one.
	front *net.UnixListener

	showVersion, teardown bool
	// file is the configuration file that was asked for, and then the one that was read; empty without one.
	file string
	// given are the flags and keys that were given, whatever their value.
	given map[string]bool
}

// Roots by default: root's by the file system hierarchy, others' by XDG.
func defaultRoots() (data, exec string) {
	data, exec = "/var/lib/kist", "/run/kist"
	if os.Geteuid() != 0 {
		home, _ := os.UserHomeDir()
		data = filepath.Join(envOr("XDG_DATA_HOME", filepath.Join(home, ".local", "share")), "kist")
		exec = filepath.Join(envOr("XDG_RUNTIME_DIR", os.TempDir()), "kist")
	}
	return envOr("KIST_DATA_ROOT", data), envOr("KIST_EXEC_ROOT", exec)
}

func envOr(key, def string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return def
}

func parseConfig(args []string) (*config, error) {
	c := new(config)
	f := c.flags()
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, err
		}
		return nil, badSetting("%v", err)
	}
	if f.NArg() > 0 {
		return nil, badSetting("unexpected argument %q: kistd takes flags only", f.Arg(0))
	}
	c.given = map[string]bool{}
	f.Visit(func(flag *pflag.Flag) { c.given[flag.Name] = true })
	if err := c.readFile(f); err != nil {
		return nil, err
	}
	return c, c.complete()
}

// flags declares the flags, which are dockerd's, with their defaults.
func (c *config) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("kistd", pflag.ContinueOnError)
	f.SortFlags = true
	data, exec := defaultRoots()
	certs := filepath.Join(envOr("DOCKER_CERT_PATH", "/etc/kist"))
	f.StringVar(&c.DataRoot, "data-root", data, "directory of images, volumes and containers")
	f.StringVar(&c.ExecRoot, "exec-root", exec, "directory of what does not outlive a reboot")
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "socket to listen on (unix://PATH, tcp://ADDRESS:PORT, fd://); may be given several times")
	f.StringVarP(&c.Group, "group", "G", "", "group that may use the unix socket")
	f.StringVarP(&c.PidFile, "pidfile", "p", "", "file to write the daemon's pid to (default EXEC-ROOT/kistd.pid)")
	f.StringVar(&c.file, "config-file", "", "JSON configuration file with dockerd's keys (default /etc/kist/daemon.json, if it exists)")
	f.StringVarP(&c.LogLevel, "log-level", "l", "info", "debug, info, warn or error")
	f.BoolVarP(&c.Debug, "debug", "D", false, "same as --log-level=debug")
	f.StringVar(&c.LogDriver, "log-driver", "json-file", "log driver of containers that name none (json-file, local, none)")
	f.StringToStringVar(&c.LogOpts, "log-opt", nil, "log options of containers that name no driver")
	f.StringArrayVar(&c.Insecure, "insecure-registry", nil, "registry (host:port or CIDR) to reach without TLS or without checking it")
	f.StringArrayVar(&c.Mirrors, "registry-mirror", nil, "mirror to ask first: URL (of docker.io) or REGISTRY=URL (of any registry)")
	f.StringVar(&c.BIP, "bip", "", "address and prefix of the default bridge, as 172.20.0.1/16")
	f.StringVarP(&c.Bridge, "bridge", "b", "", "name of the default bridge; none for no bridge")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "parent cgroup of all containers")
	f.StringArrayVar(&c.ExecOpts, "exec-opt", nil, "native.cgroupdriver=cgroupfs|systemd")
	f.StringArrayVar(&c.Labels, "label", nil, "key=value label of the daemon")
	f.StringArrayVar(&c.CDIDirs, "cdi-spec-dir", cdi.DefaultDirs(), "directory of device specifications (Container Device Interface); may be given several times")
	f.BoolVar(&c.TLS, "tls", false, "serve tcp sockets with TLS")
	f.BoolVar(&c.TLSVerify, "tlsverify", false, "serve tcp sockets with TLS and require clients' certificates")
	f.StringVar(&c.TLSCACert, "tlscacert", filepath.Join(certs, "ca.pem"), "certificates that clients' are checked against")
	f.StringVar(&c.TLSCert, "tlscert", filepath.Join(certs, "cert.pem"), "the daemon's certificate")
	f.StringVar(&c.TLSKey, "tlskey", filepath.Join(certs, "key.pem"), "the daemon's private key")
	f.Var(socketFlag{&c.Sockets}, "socket", "further socket of narrower scope: path=PATH with read-only, project=NAME, bind=PATH[:ro], subnet=SUBNET, no-pull, user=, group=, mode=; may be given several times")
	f.StringVar(&c.AccessLog, "access-log", accessChanges, "calls to write to DATA-ROOT/access.log: changes, all or off")
	f.BoolVar(&c.teardown, "teardown", false, "remove the bridge and the firewall rules of a daemon that has ended, and exit")
	f.BoolVarP(&c.showVersion, "version", "v", false, "print the version and exit")
	return f
}

// flagOf names the flag of a configuration key where the two differ.
var flagOf = map[string]string{
	"hosts": "host", "log-opts": "log-opt", "insecure-registries": "insecure-registry", "registry-mirrors": "registry-mirror",
	"exec-opts": "exec-opt", "labels": "label", "cdi-spec-dirs": "cdi-spec-dir", "sockets": "socket",
}

// readFile merges the configuration file. As with dockerd, something given both there and as a flag is an error.
func (c *config) readFile(f *pflag.FlagSet) error {
	path, explicit := c.file, c.file != ""
	if !explicit {
		path = "/etc/kist/daemon.json"
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil
	}
	c.file = path
	if err != nil {
		return configFault(path, nil, err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return configFault(path, raw, err)
	}
	known := configKeys()
	for key := range keys {
		if !slices.Contains(known, key) {
			return unknownKey(path, key)
		}
		name := key
		if other, ok := flagOf[key]; ok {
			name = other
		}
		c.given[name] = true
		if f.Changed(name) {
			return badSetting("%q is given both as a flag and in %s; take one of them out", key, path)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return configFault(path, raw, err)
	}
	return nil
}

// What --access-log takes.
const (
	accessChanges = "changes"
	accessAll     = "all"
	accessOff     = "off"
)

func (c *config) complete() error {
	for _, p := range []*string{&c.DataRoot, &c.ExecRoot} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if c.PidFile == "" {
		c.PidFile = filepath.Join(c.ExecRoot, "kistd.pid")
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix://" + filepath.Join(c.ExecRoot, "kist.sock")}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, c.LogLevel) {
		return badSetting("unknown log level %q: want debug, info, warn or error", c.LogLevel)
	}
	if !slices.Contains([]string{accessChanges, accessAll, accessOff}, c.AccessLog) {
		return badSetting("unknown --access-log %q: want changes, all or off", c.AccessLog)
	}
	if c.given["tlsverify"] {
		c.TLS = true // As with dockerd: TLS, with or without clients' certificates.
	}
	for i := range c.Sockets {
		if _, err := c.Sockets[i].scope(); err != nil {
			return err
		}
	}
	if on, given := c.Features["cdi"]; given && !on {
		c.CDIDirs = nil
	}
	if c.BIP != "" {
		if _, err := netip.ParsePrefix(c.BIP); err != nil {
			return badSetting("--bip: %v; want an address with a prefix, as 172.20.0.1/16", err)
		}
	}
	driver, err := c.cgroupDriver()
	if err == nil && c.CgroupParent == "" && driver != "systemd" && c.instance() != "0" {
		c.CgroupParent = "/kist-" + c.instance()
	}
	return err
}

func (c *config) level() slog.Level {
	if c.Debug {
		return slog.LevelDebug
	}
	switch c.LogLevel {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error", "fatal":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

func (c *config) cgroupDriver() (string, error) {
	driver := ""
	for _, o := range c.ExecOpts {
		key, value, _ := strings.Cut(o, "=")
		if key != "native.cgroupdriver" || value != "cgroupfs" && value != "systemd" {
			return "", badSetting("--exec-opt %s: want native.cgroupdriver=cgroupfs or native.cgroupdriver=systemd", o)
		}
		driver = value
	}
	return driver, nil
}

// instance tells this daemon's interfaces and rules from those of another one on the host.
func (c *config) instance() string {
	if c.DataRoot == "/var/lib/kist" {
		return "0"
	}
	sum := sha256.Sum256([]byte(c.DataRoot))
	return hex.EncodeToString(sum[:3])
}
