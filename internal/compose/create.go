package compose

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

// labelFiles is the hash of secrets and configs that are written into a container: the service's own hash knows their names only.
const labelFiles = "io.kist.compose.files-hash"

// create makes the containers that are missing or no longer what they shall be; nothing is stopped. A container that refers to
// another one's comes after it.
func (s *stack) create(g *goal) error {
	names := g.order()
	shares := func(name string) []string {
		svc := g.p.Services[name]
		return convert.Shared(&svc)
	}
	return inOrder(context.Background(), names, shares, func(_ context.Context, name string) error {
		w, err := g.decide(name)
		if err != nil {
			return err
		}
		var missing []*replica
		for _, r := range w.replicas {
			if r.now == nil || r.why != "" && !g.rolls(w) {
				missing = append(missing, r)
			}
		}
		return each(s, missing, func(r *replica) error { return s.createReplica(g, w, r) })
	})
}

// createReplica makes a container. One that is to take another's place has another name as long as that one is there.
func (s *stack) createReplica(g *goal, w *want, r *replica) error {
	name := model.ContainerName(g.p.Name, &w.service, r.number)
	verb := "creating"
	in := &convert.Input{
		Project: g.p, Service: w.service, Number: r.number, Links: g.links(&w.service), ReadFile: os.ReadFile,
		Labels: types.Labels{model.LabelHash: w.hash}, ImageVolumes: g.images[w.service.Name].volumes,
	}
	made := name
	if r.now != nil {
		verb = "recreating"
		in.Labels[model.LabelReplaces] = r.now.ID
		made = r.now.ID[:12] + "_" + name
		if !g.freshVolumes {
			in.Kept = r.now.Mounts
		}
	}
	s.board.Set(screen.Row{Kind: "Container", Name: r.label(w), State: verb, Detail: because(r.why)})
	id, err := s.make(in, made)
	if err != nil {
		s.failed("Container", r.label(w), "not created")
		return fmt.Errorf("service %s: %w", w.service.Name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r.id, r.name, r.fresh = id, name, r.now != nil
	w.changed = true
	if r.now == nil {
		s.set("Container", r.label(w), "created", screen.Working)
	}
	return nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return "(" + why + ")"
}

// oldestManyNetworks is the API that takes more than one network with a container.
const oldestManyNetworks = 44

// make creates a container with its secrets and configs.
func (s *stack) make(in *convert.Input, name string) (string, error) {
	id, _, err := s.makeWith(in, name)
	return id, err
}

// makeWith is make that also tells what was asked for.
func (s *stack) makeWith(in *convert.Input, name string) (id string, req *container.CreateRequest, err error) {
	if in.Proxies, err = s.tool.Proxies(); err != nil {
		return "", nil, err
	}
	salt := make([]byte, 8)
	if _, err := rand.Read(salt); err != nil {
		return "", nil, err
	}
	h, err := filesHash(in.Project, &in.Service, hex.EncodeToString(salt))
	if err != nil {
		return "", nil, err
	}
	if h != "" {
		in.Labels[labelFiles] = h
	}
	if req, err = convert.Container(in); err != nil {
		return "", nil, err
	}
	var later map[string]*network.EndpointSettings
	if req.NetworkingConfig != nil && minor(s.cl.APIVersion()) < oldestManyNetworks {
		later = req.NetworkingConfig.EndpointsConfig
		main := string(req.HostConfig.NetworkMode)
		req.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{main: later[main]}}
		delete(later, main)
	}
	q := url.Values{"name": {name}}
	if p := platformOf(in.Project, &in.Service); p != "" {
		q.Set("platform", p)
	}
	made, files, err := s.post(in, q, req)
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			// The first failure says more.
			_ = s.removeContainer(made.ID, true, true)
		}
	}()
	for _, w := range made.Warnings {
		s.board.Note("warning: " + name + ": " + w)
	}
	for net, e := range later {
		r := network.ConnectRequest{Container: made.ID, EndpointConfig: e}
		if err := client.Tell(s.cl, "/networks/"+url.PathEscape(net)+"/connect", nil, r); err != nil {
			return "", nil, fmt.Errorf("connect to network %s: %w", net, err)
		}
	}
	return made.ID, req, s.writeFiles(files, made.ID)
}

// minor is the second part of an API's version.
func minor(version string) int {
	_, m, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(m)
	if err != nil {
		return oldestManyNetworks
	}
	return n
}

// written are the secrets and configs that no file of this machine is mounted for.
func written(p *types.Project, svc *types.ServiceConfig) ([]convert.File, error) {
	files, err := convert.Files(p, svc)
	return slices.DeleteFunc(files, func(f convert.File) bool { return f.Path != "" }), err
}

// stretch is how often contents are hashed: who may read labels shall not find out a short secret by trying.
const stretch = 20_000

// filesHash is the hash of what is written into a service's containers, with a salt; empty if that is nothing.
func filesHash(p *types.Project, svc *types.ServiceConfig, salt string) (string, error) {
	files, err := written(p, svc)
	if err != nil || len(files) == 0 {
		return "", err
	}
	raw, err := json.Marshal(files)
	if err != nil {
		return "", err
	}
	sum, err := pbkdf2.Key(sha256.New, string(raw), []byte(salt), stretch, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash secrets and configs: %w", err)
	}
	return salt + "$" + hex.EncodeToString(sum), nil
}

// filesChanged tells whether a container was given other contents; one that does not say what it was given is left alone.
func filesChanged(p *types.Project, svc *types.ServiceConfig, label string) bool {
	salt, _, ok := strings.Cut(label, "$")
	if !ok {
		return false
	}
	now, err := filesHash(p, svc, salt)
	return err == nil && now != label // The container cannot be made either; that says why.
}

// secret is one that kist's own daemon keeps in memory for a container.
type secret struct {
	ID, Target string
	Mode       uint32
	UID, GID   *int `json:",omitempty"`
	Data       []byte
}

// withSecrets is a create request with them.
type withSecrets struct {
	*container.CreateRequest
	Secrets []secret
}

// post makes the container. Kist's own daemon is given secrets with it, and keeps them in memory; the files that are left are to
// be written.
func (s *stack) post(in *convert.Input, q url.Values, req *container.CreateRequest) (made *container.CreateResponse, files []convert.File, err error) {
	if files, err = written(in.Project, &in.Service); err != nil {
		return nil, nil, err
	}
	var secrets []secret
	if slices.ContainsFunc(files, isSecret) && s.ownDaemon() {
		for _, f := range files {
			if !isSecret(f) {
				continue
			}
			one := secret{ID: f.Name, Target: f.Target, Mode: uint32(f.Mode), Data: f.Content}
			if one.UID, err = number(f.UID); err == nil {
				one.GID, err = number(f.GID)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("secret %s: uid and gid must be numbers: %w", f.Name, err)
			}
			secrets = append(secrets, one)
		}
		files = slices.DeleteFunc(files, isSecret)
	}
	if len(secrets) == 0 {
		made, err = client.Ask[container.CreateResponse](s.cl, "/containers/create", q, req)
	} else {
		made, err = client.Ask[container.CreateResponse](s.cl, "/kist/containers/create", q, withSecrets{req, secrets})
	}
	return made, files, err
}

func isSecret(f convert.File) bool { return f.Kind == "secret" }

// number reads an id that may not be there.
func number(text string) (*int, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	return &n, err
}

// ownDaemon tells whether the daemon is kist's, which can do what Docker's API has no words for.
func (s *stack) ownDaemon() bool {
	s.asked.Do(func() {
		v, err := client.CallJSON[system.VersionResponse](s.cl, client.Get("/version", nil))
		s.own = err == nil && v.Platform.Name == "kist" // One that does not answer will say so to the next request.
	})
	return s.own
}

// writeFiles writes secrets and configs into a container that was made.
func (s *stack) writeFiles(files []convert.File, id string) error {
	if len(files) == 0 {
		return nil
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	owned := false
	for _, f := range files {
		h, err := header(&f)
		if err != nil {
			return fmt.Errorf("%s %s: %w", f.Kind, f.Name, err)
		}
		owned = owned || f.UID != "" || f.GID != ""
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(f.Content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	q := url.Values{"path": {"/"}}
	if owned {
		q.Set("copyUIDGID", "1")
	}
	r := &client.Request{
		Method: "PUT", Path: path(id, "/archive"), Query: q, Body: b.Bytes(), Header: map[string]string{"Content-Type": "application/x-tar"},
	}
	if err := s.cl.Call(r); err != nil {
		return fmt.Errorf("write secrets and configs: %w", err)
	}
	return nil
}

func header(f *convert.File) (*tar.Header, error) {
	h := &tar.Header{
		Name: strings.TrimPrefix(f.Target, "/"), Size: int64(len(f.Content)), Mode: int64(f.Mode), ModTime: time.Now(), Typeflag: tar.TypeReg,
	}
	var err error
	if f.UID != "" {
		if h.Uid, err = strconv.Atoi(f.UID); err != nil {
			return nil, fmt.Errorf("uid: %w", err)
		}
	}
	if f.GID != "" {
		if h.Gid, err = strconv.Atoi(f.GID); err != nil {
			return nil, fmt.Errorf("gid: %w", err)
		}
	}
	return h, nil
}
