package serve

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	oremote "oras.land/oras-go/v2/registry/remote"

	ggcr "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kistdev/kist/internal/servemsg"
)

func TestIndexesArtifactsAndReferrers(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	ctx := context.Background()
	native, foreign := hostImage(t, 2), hostImage(t, 2)
	index := mutate.AppendManifests(mutate.IndexMediaType(emptyIndex(t), "application/vnd.oci.image.index.v1+json"),
		mutate.IndexAddendum{Add: native, Descriptor: ggcr.Descriptor{Platform: &ggcr.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: foreign, Descriptor: ggcr.Descriptor{Platform: &ggcr.Platform{OS: "linux", Architecture: "s390x"}}})
	if err := remote.WriteIndex(b.ref(t, "multi:1"), index); err != nil {
		t.Fatal(err)
	}
	want, _ := index.Digest()
	fd, _ := foreign.Digest()
	back, err := remote.Index(b.ref(t, "multi:1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := back.Digest(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := remote.Image(b.ref(t, "multi@"+fd.String())); err != nil {
		t.Errorf("the other platform's image: %v", err)
	}
	id, _ := native.ConfigName()
	if local, err := b.store.Get(ctx, "multi:1"); err != nil || local.ID.String() != id.String() {
		t.Errorf("%v, %v", local, err)
	}
	// What the name stands for here is what the registry gives, whoever changed it.
	if err := remote.Write(b.ref(t, "other:1"), hostImage(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Tag(ctx, "other:1", "multi:1"); err != nil {
		t.Fatal(err)
	}
	if d, err := remote.Head(b.ref(t, "multi:1")); err != nil || d.Digest == want {
		t.Errorf("%v, %v", d, err)
	}
	b.artifacts(t)
}

// artifacts pushes a signature for an image with oras, and an artifact with a tag.
func (b *bench) artifacts(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	repo, err := oremote.NewRepository(b.Address() + "/other")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	subject, err := repo.Resolve(ctx, "1")
	if err != nil {
		t.Fatal(err)
	}
	src := memory.New()
	about, err := oras.PackManifest(ctx, src, oras.PackManifestVersion1_1, "application/vnd.example.signature", oras.PackManifestOptions{
		Subject: &subject, ManifestAnnotations: map[string]string{"by": "me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if rc, err := src.Fetch(ctx, about); err != nil {
		t.Fatal(err)
	} else if err := repo.Push(ctx, about, rc); err == nil {
		t.Error("a manifest was taken whose blobs are not there")
	}
	if err := src.Tag(ctx, about, "sig"); err != nil {
		t.Fatal(err)
	}
	if err := repo.Push(ctx, ocispec.DescriptorEmptyJSON, strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	rc, err := src.Fetch(ctx, about)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Push(ctx, about, rc); err != nil {
		t.Fatal(err)
	}
	var found []ocispec.Descriptor
	if err := repo.Referrers(ctx, subject, "application/vnd.example.signature", func(list []ocispec.Descriptor) error {
		found = append(found, list...)
		return nil
	}); err != nil || len(found) != 1 || found[0].Digest != about.Digest || found[0].Annotations["by"] != "me" {
		t.Errorf("%v, %v", found, err)
	}
	if state, err := b.state(); err != nil || !state {
		t.Errorf("referrers are not served by the API: %v", err)
	}
	if _, err := b.store.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	if rc, err := repo.Fetch(ctx, about); err != nil {
		t.Errorf("collected: %v", err)
	} else {
		rc.Close()
	}
	if err := repo.Delete(ctx, about); err != nil {
		t.Error(err)
	}
	if _, err := repo.Resolve(ctx, about.Digest.String()); err == nil {
		t.Error("deleted, and there")
	}
}
