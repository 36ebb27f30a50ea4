package bootstrap

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"

	kistarchive "github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/debian"
)

// unpacked is a package, and what was found in its file.
type unpacked struct {
	pkg     *debian.Package
	rank    int
	control debian.Paragraph
	// files of the control part by name, but for the control file itself.
	files map[string]controlFile
	// list are the paths in the order of the tar, as dpkg writes them.
	list []listed
	// conffiles with their MD5; sums of all files, if the package brings none.
	conffiles map[string]string
	order     []string // of conffiles
	sums      map[string]string
	// essential packages are those that the system cannot do without, and what they depend on.
	essential bool
	// careful packages are left to dpkg: their files lie at deb.
	careful bool
	size    int64
}

// listed is a path as the tar has it, and where it lies.
type listed struct {
	name, place string
	dir         bool
}

// controlFile is a script or a list.
type controlFile struct {
	data []byte
	mode uint32
}

// readControl reads the control part of a package's file.
func readControl(d *debian.Deb, p *unpacked) error {
	r, _, err := kistarchive.Decompress(d.Control)
	if err != nil {
		return fmt.Errorf("control part: %w", err)
	}
	defer r.Close()
	left := int64(maxControl)
	p.files = map[string]controlFile{}
	for t := tar.NewReader(io.LimitReader(r, maxControl+1<<20)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("control part: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		name, err := cleanName(h.Name)
		if err != nil || h.Typeflag != tar.TypeReg || strings.Contains(name, "/") {
			if err == nil && h.Typeflag == tar.TypeDir {
				continue
			}
			return fmt.Errorf("control part: %.200q does not belong there: %w", h.Name, errdefs.ErrInvalidArgument)
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("control part: larger than %d bytes: %w", maxControl, errdefs.ErrInvalidArgument)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return fmt.Errorf("control part: %w", err)
		}
		p.files[name] = controlFile{data, uint32(h.Mode & 0o777)} //nolint:gosec // masked
	}
	return p.readParagraph()
}

func (p *unpacked) readParagraph() (err error) {
	if p.control, err = debian.ParseParagraph(p.files["control"].data); err != nil {
		return err
	}
	delete(p.files, "control")
	own := debian.NewPackage(p.control)
	if own.Name != p.pkg.Name || own.Version != p.pkg.Version || own.Arch != p.pkg.Arch {
		return fmt.Errorf("it is %s for %s, and not what the list says: %w", own, own.Arch, errdefs.ErrDataLoss)
	}
	p.conffiles = map[string]string{}
	for line := range strings.Lines(string(p.files["conffiles"].data)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "/") {
			p.conffiles[name[1:]] = ""
			p.order = append(p.order, name[1:])
		}
	}
	if _, ok := p.files["md5sums"]; !ok {
		p.sums = map[string]string{}
	}
	// Of what is essential the scripts divert only what an earlier version has left.
	p.careful = !p.essential && bytes.Contains(p.files["preinst"].data, []byte("dpkg-divert"))
	return nil
}
