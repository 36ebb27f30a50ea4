package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestLimit bounds what is read as a manifest or a configuration.
const manifestLimit = 4 << 20

// images walks from the names to the blobs and the layers.
func (h *host) images(blobs map[digest.Digest]int64) []Finding {
	index, err := h.index()
	if errors.Is(err, fs.ErrNotExist) {
		return []Finding{ok("images", "there are none")}
	}
	if err != nil {
		path := filepath.Join(h.DataRoot, "content", ocispec.ImageIndexFile)
		f := fail("images", "index.json cannot be read: "+err.Error(), "mv "+path+" "+path+".damaged; then load or pull the images again")
		if h.daemon.pid == 0 { // a running one writes it anew with the next change
			f = fixable(f, func() error { return os.Rename(path, path+".damaged") })
		}
		return []Finding{f}
	}
	layers := h.layers()
	var list []Finding
	n := 0
	for i := range index.Manifests {
		d := &index.Manifests[i]
		n++
		for _, one := range together(d) {
			for _, lack := range h.lacks(&one, blobs, layers, 0) {
				name := nameOf(d)
				list = append(list, fail("image "+name, lack, "kist rmi -f "+name+" && kist pull "+name))
			}
		}
	}
	if len(list) == 0 {
		list = append(list, ok("images", fmt.Sprintf("%d names lead to all their blobs and layers", n)))
	}
	return list
}

// together are the manifests that a name stands for: that for this host, those for other platforms, and their index.
func together(d *ocispec.Descriptor) []ocispec.Descriptor {
	list := []ocispec.Descriptor{*d}
	var others []ocispec.Descriptor
	if json.Unmarshal([]byte(d.Annotations["dev.kist.image.others"]), &others) == nil {
		list = append(list, others...)
	}
	var index ocispec.Descriptor
	if json.Unmarshal([]byte(d.Annotations["dev.kist.image.index"]), &index) == nil && index.Digest != "" {
		list = append(list, index)
	}
	return list
}

func nameOf(d *ocispec.Descriptor) string {
	for _, key := range []string{"io.containerd.image.name", ocispec.AnnotationRefName} {
		if v := d.Annotations[key]; v != "" {
			return v
		}
	}
	return d.Digest.String()
}

func (h *host) index() (*ocispec.Index, error) {
	raw, err := os.ReadFile(filepath.Join(h.DataRoot, "content", ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	index := new(ocispec.Index)
	return index, json.Unmarshal(raw, index)
}

// layers are the unpacked ones by their diff ids.
func (h *host) layers() map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	files, err := filepath.Glob(filepath.Join(h.DataRoot, "layers", "l", "*", "m"))
	if err != nil {
		return all
	}
	for _, f := range files {
		var m struct {
			DiffID digest.Digest `json:"diffID"`
		}
		raw, err := os.ReadFile(f)
		if err != nil || json.Unmarshal(raw, &m) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(f), "d")); err == nil {
			all[m.DiffID] = true
		}
	}
	return all
}

// manifest is what is needed of a manifest or an index.
type manifest struct {
	Manifests []ocispec.Descriptor `json:"manifests"`
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
}

// maxDepth of indexes in indexes.
const maxDepth = 4

// lacks says what is missing below a descriptor. Other platforms' manifests of an index need not be there.
func (h *host) lacks(d *ocispec.Descriptor, blobs map[digest.Digest]int64, layers map[digest.Digest]bool, depth int) []string {
	if depth > maxDepth {
		return nil
	}
	size, there := blobs[d.Digest]
	switch {
	case !there && depth == 0:
		return []string{"its manifest " + short(d.Digest) + " is not there"}
	case !there:
		return nil
	case d.Size > 0 && size != d.Size:
		return []string{fmt.Sprintf("%s has %d bytes, and should have %d", short(d.Digest), size, d.Size)}
	}
	var m manifest
	if err := h.readBlob(d.Digest, &m); err != nil {
		return []string{"its manifest " + short(d.Digest) + " cannot be read: " + err.Error()}
	}
	var list []string
	for i := range m.Manifests {
		list = append(list, h.lacks(&m.Manifests[i], blobs, layers, depth+1)...)
	}
	if m.Config == nil || d.Annotations["vnd.docker.reference.type"] != "" {
		return list
	}
	if _, there := blobs[m.Config.Digest]; !there {
		return append(list, "its configuration "+short(m.Config.Digest)+" is not there")
	}
	var config ocispec.Image
	if err := h.readBlob(m.Config.Digest, &config); err != nil {
		return append(list, "its configuration "+short(m.Config.Digest)+" cannot be read: "+err.Error())
	}
	// A layer is there as files, or as a blob that they can be made of again.
	for i, id := range config.RootFS.DiffIDs {
		if layers[id] || id == emptyLayer || i >= len(m.Layers) {
			continue
		}
		if _, there := blobs[m.Layers[i].Digest]; !there {
			list = append(list, fmt.Sprintf("its layer %d of %d (%s) is not there, neither as files nor as a blob", i+1, len(config.RootFS.DiffIDs), short(id)))
		}
	}
	return list
}

// emptyLayer is the layer that has nothing and is kept nowhere.
const emptyLayer = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

func (h *host) readBlob(d digest.Digest, into any) error {
	if err := d.Validate(); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(h.DataRoot, "content", "blobs", d.Algorithm().String(), d.Encoded()))
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, manifestLimit))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// namesOf are the names whose images have the blob.
func (h *host) namesOf(want digest.Digest) []string {
	index, err := h.index()
	if err != nil {
		return nil
	}
	var names []string
	for i := range index.Manifests {
		d := &index.Manifests[i]
		if slices.ContainsFunc(together(d), func(one ocispec.Descriptor) bool { return h.reaches(&one, want, 0) }) {
			names = append(names, nameOf(d))
		}
	}
	return names
}

func (h *host) reaches(d *ocispec.Descriptor, want digest.Digest, depth int) bool {
	if d.Digest == want || depth > maxDepth {
		return d.Digest == want
	}
	var m manifest
	if h.readBlob(d.Digest, &m) != nil {
		return false
	}
	if m.Config != nil && m.Config.Digest == want {
		return true
	}
	return slices.ContainsFunc(m.Layers, func(l ocispec.Descriptor) bool { return l.Digest == want }) ||
		slices.ContainsFunc(m.Manifests, func(l ocispec.Descriptor) bool { return h.reaches(&l, want, depth+1) })
}

func short(d digest.Digest) string {
	s := d.String()
	return s[:min(len(s), len("sha256:")+12)]
}
