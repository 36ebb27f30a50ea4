package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names of BuildKit's storage of attestations.
const (
	inTotoType        = "application/vnd.in-toto+json"
	inTotoStatement   = "https://in-toto.io/Statement/v0.1"
	inTotoPredicate   = "in-toto.io/predicate-type"
	referenceType     = "vnd.docker.reference.type"
	referenceDigest   = "vnd.docker.reference.digest"
	attestationMarker = "attestation-manifest"
)

// statement is an in-toto statement.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// attest writes an image's attestations: a manifest whose layers are the statements, for an unknown platform, so that
// nobody takes it for an image.
func (c *composition) attest(ctx context.Context, img *BuildImage, about ocispec.Descriptor) error {
	if len(img.Attestations) == 0 {
		return nil
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}}
	config.RootFS.Type = "layers"
	for _, a := range img.Attestations {
		s := statement{Type: inTotoStatement, PredicateType: a.PredicateType, Predicate: a.Predicate}
		names := a.Subjects
		if len(names) == 0 {
			names = []string{"_"}
		}
		for _, name := range names {
			s.Subject = append(s.Subject, subject{name, map[string]string{about.Digest.Algorithm().String(): about.Digest.Encoded()}})
		}
		d, err := c.putJSON(ctx, inTotoType, s)
		if err != nil {
			return fmt.Errorf("attestation %s: %w", a.PredicateType, err)
		}
		d.Annotations = map[string]string{inTotoPredicate: a.PredicateType}
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
	}
	var err error
	if m.Config, err = c.putJSON(ctx, ocispec.MediaTypeImageConfig, config); err != nil {
		return err
	}
	d, err := c.putJSON(ctx, m.MediaType, m)
	if err != nil {
		return err
	}
	d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{referenceType: attestationMarker, referenceDigest: about.Digest.String()}
	c.extra = append(c.extra, d)
	return nil
}
