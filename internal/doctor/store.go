package doctor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// store checks what is on the disk: the files of rows, the images' blobs and the layers.
func store(ctx context.Context, h *host) []Finding {
	if _, err := os.Stat(h.DataRoot); errors.Is(err, fs.ErrNotExist) {
		return []Finding{ok("data root", "there is none yet: "+h.DataRoot)}
	}
	list := h.databases()
	blobs, found := h.blobs(ctx)
	list = append(list, found...)
	list = append(list, h.images(blobs)...)
	return append(list, h.roots()...)
}

// roots looks whether each container has its writable layer.
func (h *host) roots() []Finding {
	if h.stock == nil {
		return nil // said under "leftovers"
	}
	var list []Finding
	for id, c := range h.stock.containers {
		if _, err := os.Stat(filepath.Join(h.DataRoot, "layers", "c", id)); errors.Is(err, fs.ErrNotExist) && !h.goneMeanwhile(id) {
			list = append(list, fail("container "+c.name, "its writable layer is not there: what it wrote is lost, and it cannot start", "kist rm "+c.name+", and run it again"))
		}
	}
	if len(list) == 0 && len(h.stock.containers) > 0 {
		list = append(list, ok("containers", fmt.Sprintf("%d have their writable layers", len(h.stock.containers))))
	}
	return list
}

// goneMeanwhile says whether a container was removed while doctor looked.
func (h *host) goneMeanwhile(id string) bool {
	_, err := os.Stat(filepath.Join(h.DataRoot, "containers", id))
	return errors.Is(err, fs.ErrNotExist)
}

// databases opens each file of rows and walks its pages. Those that a daemon has open it has walked itself.
func (h *host) databases() []Finding {
	if h.daemon.pid != 0 {
		return []Finding{ok("rows", "the running daemon has them open")}
	}
	var list []Finding
	n := 0
	for _, file := range []string{"kist.db", "build.db"} {
		path := filepath.Join(h.DataRoot, file)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		n++
		err := readDB(path, func(tx *bolt.Tx) error {
			var first error
			for err := range tx.Check() {
				first = cmp.Or(first, err)
			}
			return first
		})
		if err != nil {
			f := fail("rows", err.Error(), fmt.Sprintf("mv %s %s.damaged; its rows are lost with it, images and volumes stay", path, path))
			list = append(list, fixable(f, func() error { return os.Rename(path, path+".damaged") }))
		}
	}
	if len(list) == 0 {
		list = append(list, ok("rows", fmt.Sprintf("%d files can be read whole", n)))
	}
	return list
}

// How much is read of the blobs without --deep: the small ones first, which are the manifests and configurations that all
// else hangs on.
const (
	sampleBytes = 64 << 20
	sampleBlob  = 16 << 20
)

// blobs compares blobs with their names, and returns the sizes of those that are there.
func (h *host) blobs(ctx context.Context) (map[digest.Digest]int64, []Finding) {
	dir := filepath.Join(h.DataRoot, "content", "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, []Finding{ok("blobs", "there are none")}
	}
	if err != nil {
		return nil, []Finding{fail("blobs", err.Error(), "fsck the file system of "+h.DataRoot)}
	}
	type blob struct {
		name string
		size int64
	}
	var all []blob
	sizes := map[digest.Digest]int64{}
	for _, e := range entries {
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			all = append(all, blob{e.Name(), st.Size()})
			sizes[digest.NewDigestFromEncoded(digest.SHA256, e.Name())] = st.Size()
		}
	}
	slices.SortFunc(all, func(a, b blob) int { return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.name, b.name)) })
	var list []Finding
	read, n := int64(0), 0
	for _, b := range all {
		if ctx.Err() != nil || !h.Deep && (read+b.size > sampleBytes || b.size > sampleBlob) {
			break
		}
		read, n = read+b.size, n+1
		switch sum, err := sumOf(filepath.Join(dir, b.name)); {
		case errors.Is(err, fs.ErrNotExist): // collected meanwhile
		case err != nil:
			list = append(list, fail("blob sha256:"+b.name[:min(12, len(b.name))], "cannot be read: "+err.Error(), "fsck the file system of "+h.DataRoot))
		case sum != b.name:
			f := fail("blob sha256:"+b.name[:min(12, len(b.name))], "its content has the digest sha256:"+sum+": the file was changed, or the disk fails", h.remedy(b.name))
			list = append(list, fixable(f, func() error { return dropDamaged(filepath.Join(dir, b.name), b.name) }))
		}
	}
	if len(list) == 0 {
		text := fmt.Sprintf("%d of %d have the digests that they are named by (%s read)", n, len(all), units.BytesSize(float64(read)))
		if n < len(all) {
			text += "; --deep reads all"
		}
		list = append(list, ok("blobs", text))
	}
	return sizes, list
}

// fixable is a finding that --fix can do something about.
func fixable(f Finding, fix func() error) Finding {
	f.Fixable, f.fix = true, fix
	return f
}

// dropDamaged removes a blob that is still not what its name says: whoever brings it again finds its place free.
func dropDamaged(path, name string) error {
	sum, err := sumOf(path)
	if err != nil || sum == name {
		return err
	}
	return os.Remove(path)
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// remedy names the images that a blob belongs to.
func (h *host) remedy(hexName string) string {
	names := h.namesOf(digest.NewDigestFromEncoded(digest.SHA256, hexName))
	if len(names) == 0 {
		return "rm " + filepath.Join(h.DataRoot, "content", "blobs", "sha256", hexName) + "; no image needs it"
	}
	return "kist rmi -f " + names[0] + " && kist pull " + names[0]
}
