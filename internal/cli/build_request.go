package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kistdev/kist/internal/buildmsg"
)

// prepare makes the request of flags and the argument.
func (b *buildRun) prepare(path string) error {
	f := b.flags
	var err error
	if b.call, err = f.parseCall(); err != nil {
		return err
	}
	b.dirs, b.agents, b.outputs = map[string]string{}, map[string]string{}, map[int]string{}
	b.stdin = b.app.in
	b.req = buildmsg.Request{
		Target: f.target, Platforms: f.platforms, NoCache: f.noCache, NoCacheFilter: f.noCacheFilter, Pull: f.pull,
		Network: f.network, AddHosts: f.addHosts.values, ShmSize: f.shmSize.n, CgroupParent: f.cgroupParent, Allow: f.allow,
		Labels: mapOf(f.labels.values), Annotations: mapOf(f.annotations.values), Call: b.call.method,
		Owner: &buildmsg.Owner{UID: os.Getuid(), GID: os.Getgid()}, Secrets: map[string][]byte{}, Agents: map[string]buildmsg.Agent{},
	}
	if f.metadataFile != "" {
		b.req.Provenance = metadataProvenance(os.Getenv("BUILDX_METADATA_PROVENANCE"))
	}
	for _, l := range f.ulimits.list() {
		b.req.Ulimits = append(b.req.Ulimits, fmt.Sprintf("%s=%d:%d", l.Name, l.Soft, l.Hard))
	}
	for _, name := range f.tags.values {
		ref, err := parseImage(name)
		if err != nil {
			return fmt.Errorf("invalid argument %q for --tag: %w", name, err)
		}
		if ref.digest != "" {
			return fmt.Errorf("invalid argument %q for --tag: a name that is given cannot have a digest", name)
		}
		b.req.Tags = append(b.req.Tags, ref.tagged().String())
	}
	b.req.Args = b.buildArgs()
	steps := []func() error{
		func() error { return b.findContext(path) }, b.findContexts, b.findSecrets, b.findAgents,
		b.findOutputs, b.findCaches, b.findAttests,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// buildArgs reads --build-arg and the proxies of docker's configuration; a name alone takes its value from this process.
func (b *buildRun) buildArgs() map[string]string {
	args := map[string]string{}
	for _, s := range b.flags.args.values {
		name, value, set := strings.Cut(s, "=")
		if !set {
			var ok bool
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		args[name] = value
	}
	if v, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok && v != "" {
		if _, given := args["SOURCE_DATE_EPOCH"]; !given {
			args["SOURCE_DATE_EPOCH"] = v
		}
	}
	return args
}

// fields reads type=x,name=value,... as docker's CSV. What has no name is put under "".
func fields(s string) (map[string]string, error) {
	r := csv.NewReader(strings.NewReader(s))
	r.LazyQuotes = true
	list, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("invalid value %q: %w", s, err)
	}
	m := map[string]string{}
	for _, field := range list {
		k, v, ok := strings.Cut(field, "=")
		if !ok {
			m[""] = field
			continue
		}
		m[strings.ToLower(strings.TrimSpace(k))] = v
	}
	return m, nil
}

// maxSecret is BuildKit's limit.
const maxSecret = 500 << 10

// findSecrets reads the values of --secret.
func (b *buildRun) findSecrets() error {
	for _, s := range b.flags.secrets.values {
		m, err := fields(s)
		if err != nil {
			return fmt.Errorf("--secret: %w", err)
		}
		id := m["id"]
		if id == "" {
			return &hintedError{err: fmt.Errorf("--secret %s: the id is missing", s), try: "--secret id=NAME,src=FILE"}
		}
		value, err := secretValue(id, m)
		if err != nil {
			return fmt.Errorf("--secret %s: %w", id, err)
		}
		b.req.Secrets[id] = value
	}
	return nil
}

func secretValue(id string, m map[string]string) ([]byte, error) {
	file, variable := m["src"], m["env"]
	if file == "" {
		file = m["source"]
	}
	if m["type"] == "env" && variable == "" {
		variable, file = file, ""
		if variable == "" {
			variable = id
		}
	}
	if file == "" && variable == "" {
		if _, ok := os.LookupEnv(id); ok && m["type"] != "file" {
			variable = id
		} else {
			file = id
		}
	}
	if variable != "" {
		return []byte(os.Getenv(variable)), nil
	}
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, maxSecret)
	}
	return os.ReadFile(file)
}

// findAgents reads --ssh.
func (b *buildRun) findAgents() error {
	for _, s := range b.flags.ssh.values {
		id, rest, _ := strings.Cut(s, "=")
		var agent buildmsg.Agent
		for _, path := range strings.Split(rest, ",") {
			if path == "" {
				continue
			}
			st, err := os.Stat(path)
			if err != nil {
				return fmt.Errorf("--ssh %s: %w", id, err)
			}
			if st.Mode()&os.ModeSocket != 0 {
				agent.Socket = path
				continue
			}
			key, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("--ssh %s: %w", id, err)
			}
			agent.Keys = append(agent.Keys, key)
		}
		if agent.Socket == "" && len(agent.Keys) == 0 {
			if agent.Socket = b.app.getenv("SSH_AUTH_SOCK"); agent.Socket == "" {
				return &hintedError{err: fmt.Errorf("--ssh %s: there is no ssh agent (SSH_AUTH_SOCK is empty)", id), try: "eval $(ssh-agent) && ssh-add, or --ssh " + id + "=KEYFILE"}
			}
		}
		if agent.Socket != "" {
			abs, err := filepath.Abs(agent.Socket)
			if err != nil {
				return err
			}
			b.agents[id] = abs
			if agent.Socket = abs; !b.here() {
				agent.Socket = "" // The daemon asks for a connection.
			}
		}
		b.req.Agents[id] = agent
	}
	return nil
}

// here says that the daemon is on this machine, as far as its address tells.
func (b *buildRun) here() bool {
	e, err := b.app.endpoint()
	return err == nil && e.Scheme == "unix"
}

// findCaches reads --cache-from and --cache-to.
func (b *buildRun) findCaches() error {
	read := func(flag string, values []string) ([]buildmsg.Option, error) {
		var out []buildmsg.Option
		for _, s := range values {
			m, err := fields(s)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
			if ref, plain := m[""]; plain && len(m) == 1 {
				m = map[string]string{"type": "registry", "ref": ref}
			}
			o := buildmsg.Option{Type: m["type"], Attrs: m}
			delete(m, "type")
			if o.Type == "" {
				return nil, fmt.Errorf("--%s %s: the type is missing", flag, s)
			}
			for _, key := range []string{"src", "dest"} {
				if dir := m[key]; dir != "" && o.Type == "local" {
					if m[key], err = filepath.Abs(dir); err != nil {
						return nil, err
					}
				}
			}
			if o.Type == "local" && !b.here() {
				return nil, fmt.Errorf("--%s type=local needs a daemon on this machine", flag)
			}
			out = append(out, o)
		}
		return out, nil
	}
	var err1, err2 error
	b.req.CacheFrom, err1 = read("cache-from", b.flags.cacheFrom.values)
	b.req.CacheTo, err2 = read("cache-to", b.flags.cacheTo.values)
	return errors.Join(err1, err2)
}

// findAttests reads --attest, --provenance and --sbom.
func (b *buildRun) findAttests() error {
	attests := map[string]string{}
	put := func(kind, value string) error {
		if on, err := strconv.ParseBool(value); err == nil {
			if delete(attests, kind); on {
				attests[kind] = ""
			}
			return nil
		}
		m, err := fields(value)
		if err != nil {
			return err
		}
		if off, err := strconv.ParseBool(m["disabled"]); err == nil && off {
			delete(attests, kind)
			return nil
		}
		attests[kind] = value
		return nil
	}
	for _, s := range b.flags.attests.values {
		m, err := fields(s)
		if err != nil {
			return fmt.Errorf("--attest: %w", err)
		}
		kind := m["type"]
		if kind != "provenance" && kind != "sbom" {
			return fmt.Errorf("--attest %s: the type is provenance or sbom", s)
		}
		var rest []string
		for _, part := range strings.Split(s, ",") {
			if !strings.HasPrefix(part, "type=") {
				rest = append(rest, part)
			}
		}
		value := strings.Join(rest, ",")
		if value == "" {
			value = "true"
		}
		if err := put(kind, value); err != nil {
			return fmt.Errorf("--attest: %w", err)
		}
	}
	for kind, value := range map[string]string{"provenance": b.flags.provenance, "sbom": b.flags.sbom} {
		if value == "" {
			continue
		}
		if err := put(kind, value); err != nil {
			return fmt.Errorf("--%s: %w", kind, err)
		}
	}
	b.req.Attests = attests
	return nil
}
