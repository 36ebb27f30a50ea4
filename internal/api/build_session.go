package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	apiregistry "github.com/moby/moby/api/types/registry"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// kistSession is the client's side of a `kist build`. What lies on this machine is used in place; the rest is asked for by
// wants.
type kistSession struct {
	*build.Place
	s   *Server
	req *buildmsg.Request
	out *buildStream
	// far are the directories that are not on this machine, by the names that the frontend knows.
	far map[string]bool

	mu       sync.Mutex // guards what follows
	received map[string]string
	temp     []string
}

// kistSession makes the client's side of a request, and completes the frontend's options. release removes what was made.
func (s *Server) kistSession(req *buildmsg.Request, attrs map[string]string, out *buildStream) (_ build.Session, release func(), err error) {
	k := &kistSession{
		Place: &build.Place{
			Dirs: map[string]string{}, Secrets: req.Secrets,
			Agents: map[string]string{}, Outputs: map[int]string{}, Stores: map[string]string{},
		},
		s: s, req: req, out: out, far: map[string]bool{}, received: map[string]string{},
	}
	defer func() {
		if err != nil {
			k.release()
		}
	}()
	if req.Owner != nil {
		k.Owner = &build.Owner{UID: req.Owner.UID, GID: req.Owner.GID}
	}
	if err := k.addDirs(); err != nil {
		return nil, nil, err
	}
	if err := k.addLayouts(attrs); err != nil {
		return nil, nil, err
	}
	for id, a := range req.Agents {
		if a.Socket != "" {
			k.Agents[id] = a.Socket
		}
	}
	for i, o := range req.Outputs {
		if o.Path != "" && !o.ToClient {
			if !filepath.IsAbs(o.Path) {
				return nil, nil, fmt.Errorf("output %s: want an absolute path: %w", o.Path, errdefs.ErrInvalidArgument)
			}
			k.Outputs[i] = o.Path
		}
	}
	for _, o := range append(append([]buildmsg.Option{}, req.CacheFrom...), req.CacheTo...) {
		for _, key := range []string{"src", "dest"} {
			if dir := o.Attrs[key]; o.Type == "local" && filepath.IsAbs(dir) {
				k.Stores["local:"+dir] = dir
			}
		}
	}
	return k, k.release, nil
}

// addDirs finds the client's directories.
func (k *kistSession) addDirs() error {
	add := func(name string, d *buildmsg.Dir) {
		if isHere(d) {
			k.Dirs[name] = filepath.Clean(d.Path)
			return
		}
		k.far[name] = true
	}
	if d := k.req.Context.Dir; d != nil {
		add("context", d)
	}
	for name, src := range k.req.Contexts {
		if src.Dir != nil && src.Ref == "" {
			add(localName(name), src.Dir)
		}
	}
	if k.req.Context.Empty {
		dir, err := k.s.sentDir("empty")
		if err != nil {
			return err
		}
		k.temp = append(k.temp, dir)
		k.Dirs["context"] = dir
	}
	switch {
	case k.req.Text != nil:
		dir, err := k.s.textDir(k.req)
		if err != nil {
			return err
		}
		k.temp = append(k.temp, dir)
		k.Dirs["dockerfile"] = dir
	case k.req.DockerfileDir != nil:
		add("dockerfile", k.req.DockerfileDir)
	case k.req.Context.Dir != nil:
		add("dockerfile", k.req.Context.Dir)
	}
	return nil
}

func (k *kistSession) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, dir := range k.temp {
		if err := os.RemoveAll(dir); err != nil {
			k.s.Log.Warn("remove what a client sent", "error", err)
		}
	}
}

// Local implements build.Session.
func (k *kistSession) Local(ctx context.Context, name string, o build.LocalOptions) (*build.LocalDir, error) {
	if !k.far[name] {
		return k.Place.Local(ctx, name, o)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := strings.Join([]string{name, strings.Join(o.Include, "\x01"), strings.Join(o.Exclude, "\x01")}, "\x00")
	dir, ok := k.received[wanted]
	if !ok {
		var err error
		if dir, err = k.s.sentDir("context"); err != nil {
			return nil, err
		}
		k.temp = append(k.temp, dir)
		if err := k.receive(ctx, dir, name, o); err != nil {
			return nil, err
		}
		k.received[wanted] = dir
	}
	return &build.LocalDir{Dir: dir, Key: "received " + dir, Release: func() {}}, nil
}

// receive unpacks a directory of the client.
func (k *kistSession) receive(ctx context.Context, dir, name string, o build.LocalOptions) (err error) {
	conn, err := k.s.wants.ask(ctx, k.out, buildmsg.Want{Kind: "dir", Name: name, Include: o.Include, Exclude: o.Exclude})
	if err != nil {
		return err
	}
	defer conn.Close()
	root, err := sys.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("receive %s: %w", name, err)
	}
	_, err = archive.Untar(ctx, root, ".", conn, archive.UntarOptions{Owner: &archive.Owner{}})
	if err = errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("receive %s: %w", name, err)
	}
	return nil
}

// Upload implements build.Session: the archive that the client has as its context.
func (k *kistSession) Upload(ctx context.Context, _ string) (io.ReadCloser, error) {
	return k.s.wants.ask(ctx, k.out, buildmsg.Want{Kind: "stream", Name: "context"})
}

// Credentials implements build.Session.
func (k *kistSession) Credentials(ctx context.Context, host string) (*apiregistry.AuthConfig, error) {
	conn, err := k.s.wants.ask(ctx, k.out, buildmsg.Want{Kind: "auth", Name: host})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := readLimited(conn)
	if err != nil {
		return nil, err
	}
	var c buildmsg.Credentials
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", host, err)
	}
	if c == (buildmsg.Credentials{}) {
		return nil, nil
	}
	return &apiregistry.AuthConfig{ServerAddress: host, Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken}, nil
}

// SSH implements build.Session: an agent of the client, or one made of its keys.
func (k *kistSession) SSH(ctx context.Context, id string) (net.Conn, error) {
	if id == "" {
		id = "default"
	}
	a, ok := k.req.Agents[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("the ssh agent %q was not given: %w", id, errdefs.ErrNotFound)
	case len(a.Keys) > 0:
		return agentOf(id, a.Keys)
	case a.Socket != "":
		return k.Place.SSH(ctx, id)
	}
	return k.s.wants.ask(ctx, k.out, buildmsg.Want{Kind: "ssh", Name: id})
}

// agentOf serves private keys as an ssh agent does.
func agentOf(id string, keys [][]byte) (net.Conn, error) {
	ring := agent.NewKeyring()
	for _, pem := range keys {
		key, err := ssh.ParseRawPrivateKey(pem)
		if err == nil {
			err = ring.Add(agent.AddedKey{PrivateKey: key})
		}
		if err != nil {
			return nil, &fault.Error{
				Code: "bad-ssh-key", What: fmt.Sprintf("the key for the ssh agent %q cannot be used", id), Cause: err.Error(),
				Try: "give a private key without a passphrase, or run ssh-agent and add it there", Class: errdefs.ErrInvalidArgument, Err: err,
			}
		}
	}
	near, far := net.Pipe()
	go func() {
		_ = agent.ServeAgent(ring, far) // It ends with the step's connection.
		_ = far.Close()
	}()
	return near, nil
}

// Output implements build.Session.
func (k *kistSession) Output(ctx context.Context, export int, attrs map[string]string) (io.WriteCloser, error) {
	if export < 0 || export >= len(k.req.Outputs) || !k.req.Outputs[export].ToClient {
		return k.Place.Output(ctx, export, attrs)
	}
	conn, err := k.s.wants.ask(ctx, k.out, buildmsg.Want{Kind: "output", Index: export, Tree: k.req.Outputs[export].Type == "local"})
	if err != nil {
		return nil, err
	}
	return &output{Conn: conn}, nil
}
