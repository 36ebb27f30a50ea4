package content

import (
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Expect tells a draft, before its Commit, the digest that it must have.
func (w *Writer) Expect(d digest.Digest) error {
	if _, err := w.s.blobPath(d); err != nil {
		return err
	}
	if d.Algorithm() != w.algorithm() {
		w.hash = d.Algorithm().Hash()
		if _, err := w.file.Seek(0, 0); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
		if err := w.rehash(); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
	}
	w.digest = d
	return nil
}
