package engine

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// tarOf is an archive of one file.
func tarOf(t *testing.T, name, content string) io.Reader {
	t.Helper()
	return bytes.NewReader(testbed.Tar(t, tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: content}))
}
