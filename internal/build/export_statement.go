package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/sys"
)

// statement is an in-toto statement about files.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []fileSubject   `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

type fileSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

const statementType = "https://in-toto.io/Statement/v0.1"

// addStatements puts the statements about a tree beside it: their subjects are its files.
func (t *Tree) addStatements(ctx context.Context, p *product, prefix string, tagged bool) error {
	var about []fileSubject
	for _, at := range p.Attestations {
		if at.ImagesOnly {
			continue
		}
		if about == nil {
			var err error
			if about, err = subjectsOf(ctx, t.Root); err != nil {
				return fmt.Errorf("attestations: %w", err)
			}
		}
		name := prefix + at.File
		if tagged {
			ext := path.Ext(name)
			name = strings.TrimSuffix(name, ext) + "." + strings.ReplaceAll(p.ID, "/", "_") + ext
		}
		if _, ok := t.Files[name]; ok {
			return fmt.Errorf("two attestations are called %s: %w", name, errdefs.ErrInvalidArgument)
		}
		raw, err := json.MarshalIndent(statement{statementType, at.PredicateType, about, at.Predicate}, "", "  ")
		if err != nil {
			return fmt.Errorf("attestation %s: %w", name, err)
		}
		t.Files[name] = raw
	}
	return nil
}

// subjectsOf are the regular files of a tree, with their digests.
func subjectsOf(ctx context.Context, root *sys.Root) ([]fileSubject, error) {
	list := []fileSubject{}
	top := sys.FDPath(root.Fd()) + "/."
	err := filepath.WalkDir(top, func(at string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		name, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		f, err := root.OpenRegular(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		list = append(list, fileSubject{name, map[string]string{"sha256": hex.EncodeToString(h.Sum(nil))}})
		return nil
	})
	return list, err
}
