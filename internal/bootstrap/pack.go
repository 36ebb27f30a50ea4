package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// pack makes a layer of the tree, and an image of the layer. It returns the bytes on disk.
func (j *job) pack(ctx context.Context, id string, root *sys.Root, res *bootmsg.Result) (int64, error) {
	count := j.counter(bootmsg.StagePack, 1, 0)
	if err := cleanUp(root); err != nil {
		return 0, err
	}
	hold := j.m.cfg.Layers.Hold()
	defer hold.Release()
	made, err := j.m.cfg.Layers.Commit(ctx, id, layer.CommitOptions{Epoch: &j.epoch, Hold: hold})
	if err != nil {
		return 0, err
	}
	config, err := json.Marshal(j.config())
	if err != nil {
		return 0, fmt.Errorf("encode the image's configuration: %w", err)
	}
	about := j.about()
	built, err := j.m.cfg.Images.Build(ctx, image.BuildOptions{
		Images: []image.BuildImage{{
			Platform: j.target.platform, Config: config, Layers: []digest.Digest{made.DiffID}, Epoch: &j.epoch, Annotations: about,
		}},
		Names: []string{j.target.tag},
	})
	if err != nil {
		return 0, err
	}
	res.ID, res.Digest = built.Image.ID.String(), built.Top.Digest.String()
	count.one(j.target.tag)
	return made.Size, nil
}

// about tells what the image is made of, in the OCI's words and ours.
func (j *job) about() map[string]string {
	first := j.archives[0]
	suite := first.release.Codename
	if suite == "" {
		suite = first.suite
	}
	uri := *first.uri
	uri.User = nil
	about := map[string]string{
		ocispec.AnnotationCreated: j.epoch.Format(time.RFC3339), ocispec.AnnotationSource: uri.String(),
		"dev.kist.bootstrap.suite": suite, "dev.kist.bootstrap.date": j.date.Format(time.RFC3339),
		"dev.kist.bootstrap.variant": string(j.target.variant),
	}
	if v := first.release.Version; v != "" {
		about[ocispec.AnnotationVersion] = v
	}
	return about
}

// config is the image's configuration: that of the distribution's images elsewhere.
func (j *job) config() *dockerspec.DockerOCIImage {
	shell := "bash"
	if !j.has("bash") {
		shell = "sh"
	}
	c := new(dockerspec.DockerOCIImage)
	c.Platform = j.target.platform
	c.Created = &j.epoch
	c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Config.Cmd = []string{shell}
	c.Config.Labels = map[string]string{}
	for key, value := range j.about() {
		if strings.HasPrefix(key, "dev.kist.") {
			c.Config.Labels[key] = value
		}
	}
	c.History = []ocispec.History{{Created: &j.epoch, CreatedBy: j.command(), Comment: "kist image bootstrap"}}
	return c
}

func (j *job) has(name string) bool {
	for _, p := range j.packages {
		if p.Name == name {
			return true
		}
	}
	return false
}

// command is how the image is made again.
func (j *job) command() string {
	args := []string{"kist image bootstrap", "--variant", string(j.target.variant), "--arch", j.arch}
	if len(j.req.Include) > 0 {
		args = append(args, "--include", strings.Join(j.req.Include, ","))
	}
	if len(j.req.Exclude) > 0 {
		args = append(args, "--exclude", strings.Join(j.req.Exclude, ","))
	}
	return strings.Join(append(args, j.target.distro.name+":"+j.target.suite), " ")
}
