package test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// flat is what an image is to who runs it: its files, whatever layers they come from, and its configuration.
type flat struct {
	id     string
	files  map[string]string // a line about each path
	config map[string]any
}

// volatile are files that differ each time they are made, whoever makes them.
var volatile = []string{
	"var/log/", "var/cache/ldconfig/", "var/lib/dpkg/", "var/lib/apt/", "etc/ld.so.cache", "etc/shadow", "etc/hosts", "etc/hostname", "etc/resolv.conf",
}

// flatten reads what docker save or kist save wrote.
func flatten(file string) (*flat, error) {
	blobs, err := readTar(file)
	if err != nil {
		return nil, err
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(blobs["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return nil, fmt.Errorf("manifest.json: %d images: %w", len(manifest), err)
	}
	f := &flat{files: map[string]string{}}
	var config struct {
		Architecture string         `json:"architecture"`
		OS           string         `json:"os"`
		Config       map[string]any `json:"config"`
	}
	if err := json.Unmarshal(blobs[manifest[0].Config], &config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	f.config = config.Config
	f.config["Architecture"], f.config["OS"] = config.Architecture, config.OS
	for name, v := range f.config { // What is not set is written as nothing, null, empty or left out.
		if v == nil || v == "" || v == false || name == "Image" || name == "Hostname" || name == "Domainname" || name == "ArgsEscaped" {
			delete(f.config, name)
		}
	}
	for _, l := range manifest[0].Layers {
		if err := f.apply(blobs[l]); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l, err)
		}
	}
	for name := range f.files {
		for _, v := range volatile {
			if strings.HasPrefix(name, v) {
				delete(f.files, name)
			}
		}
	}
	return f, nil
}

func readTar(file string) (map[string][]byte, error) {
	r, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeSymlink { // Docker writes a layer that comes twice so.
			all[h.Name] = all[path.Join(path.Dir(h.Name), h.Linkname)]
			continue
		}
		raw, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		all[h.Name] = raw
	}
	return all, nil
}

// apply puts a layer on top.
func (f *flat) apply(blob []byte) error {
	var r io.Reader = bytes.NewReader(blob)
	switch {
	case bytes.HasPrefix(blob, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = z
	case bytes.HasPrefix(blob, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.entry(h, tr); err != nil {
			return err
		}
	}
}

func (f *flat) entry(h *tar.Header, r io.Reader) error {
	name := path.Clean(strings.TrimPrefix(h.Name, "/"))
	dir, base := path.Split(name)
	switch {
	case name == ".":
		return nil
	case base == ".wh..wh..opq":
		f.drop(dir)
		return nil
	case strings.HasPrefix(base, ".wh."):
		gone := dir + strings.TrimPrefix(base, ".wh.")
		delete(f.files, gone)
		f.drop(gone + "/")
		return nil
	}
	about := fmt.Sprintf("%c %o %d:%d", h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid)
	switch h.Typeflag {
	case tar.TypeReg:
		sum := sha256.New()
		n, err := io.Copy(sum, r)
		if err != nil {
			return err
		}
		about += fmt.Sprintf(" %d bytes %x", n, sum.Sum(nil)[:8])
	case tar.TypeLink: // The same file under a second name: which of the names comes first is the archiver's.
		about = f.files[path.Clean(strings.TrimPrefix(h.Linkname, "/"))]
	case tar.TypeSymlink:
		about = "link to " + h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		about += fmt.Sprintf(" device %d:%d", h.Devmajor, h.Devminor)
	}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			about += fmt.Sprintf(" %s=%q", k, v)
		}
	}
	if h.Typeflag != tar.TypeDir {
		f.drop(name + "/")
	}
	f.files[name] = about
	return nil
}

// drop forgets what is below a directory.
func (f *flat) drop(prefix string) {
	for name := range f.files {
		if strings.HasPrefix(name, prefix) {
			delete(f.files, name)
		}
	}
}
