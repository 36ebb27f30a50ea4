package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Attestations lists the statements about the image for a platform that are here, of the predicate types that are wanted: none
// named is all. whole adds the statements themselves.
func (s *Store) Attestations(_ context.Context, ref string, wish *ocispec.Platform, types []string, whole bool) ([]image.AttestationStatement, error) {
	e, err := s.catalog.snapshot().find(ref)
	if err != nil {
		return nil, err
	}
	one := e
	if wish != nil {
		if one, err = s.pick(e, ref, wish); err != nil {
			return nil, err
		}
	}
	one.index, one.others = e.index, nil
	var list []image.AttestationStatement
	for _, d := range s.statementsOf(one) {
		m, ok := s.hasStatement(d)
		if !ok {
			continue
		}
		for _, l := range m.Layers {
			at := image.AttestationStatement{Descriptor: l, PredicateType: l.Annotations[inTotoPredicate]}
			if len(types) > 0 && !slices.Contains(types, at.PredicateType) {
				continue
			}
			if whole {
				if at.Statement, err = s.statement(l); err != nil {
					return nil, err
				}
			}
			list = append(list, at)
		}
	}
	return list, nil
}

func (s *Store) statement(d ocispec.Descriptor) (*json.RawMessage, error) {
	raw, err := s.content.Bytes(d.Digest, manifestLimit)
	if err != nil {
		return nil, fmt.Errorf("read attestation: %w", err)
	}
	if !json.Valid(raw) {
		return nil, fmt.Errorf("attestation %s is no JSON: %w", d.Digest, errdefs.ErrDataLoss)
	}
	text := json.RawMessage(raw)
	return &text, nil
}
