package treesum

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Cache is a directory of stat caches, one for each key. It is safe for concurrent use.
type Cache struct{ dir string }

// keptFiles is how many keys are remembered.
const keptFiles = 256

// Open opens the stat caches in dir, which is made if it is missing, and drops those that were not used for longest.
func Open(dir string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open stat caches: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open stat caches: %w", err)
	}
	infos := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for i, info := range infos {
		if i >= keptFiles || filepath.Ext(info.Name()) == ".new" {
			_ = os.Remove(filepath.Join(dir, info.Name())) // only a cache
		}
	}
	return &Cache{dir}, nil
}

// identity is by what a file that was not changed is known again.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
}

// A stat cache on disk: magic, records, a checksum of them. Numbers are little-endian.
const (
	cacheMagic = "kiststat2\n"
	recordSize = 5*8 + len(sum{})
)

// statCache is one key's cache.
type statCache struct {
	name string

	mu    sync.Mutex // guards what follows
	old   []byte     // the records of the file
	index []uint32   // of old: number + 1 by hash of device and inode
	fresh map[identity]sum
	used  []bool // which old records were looked up with success
	hits  int
}

// nameOf is what the file of a key is called.
func nameOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// open reads the cache for key. One that is damaged, which a crash of the machine can leave, is as good as none.
func (c *Cache) open(key string) *statCache {
	s := &statCache{name: filepath.Join(c.dir, nameOf(key)), fresh: make(map[identity]sum)}
	raw, err := os.ReadFile(s.name)
	if err != nil || len(raw) < len(cacheMagic)+4 || string(raw[:len(cacheMagic)]) != cacheMagic {
		return s
	}
	records := raw[len(cacheMagic) : len(raw)-4]
	if len(records)%recordSize != 0 || crc32.Checksum(records, castagnoli) != binary.LittleEndian.Uint32(raw[len(raw)-4:]) {
		return s
	}
	s.old = records
	s.build()
	return s
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// build makes the index: open addressing, at most half full.
func (s *statCache) build() {
	n := len(s.old) / recordSize
	size := 16
	for size < 2*n {
		size *= 2
	}
	s.index, s.used = make([]uint32, size), make([]bool, n)
	for i := range n {
		id := identityAt(s.old[i*recordSize:])
		at := id.hash() & uint64(size-1)
		for s.index[at] != 0 {
			at = (at + 1) & uint64(size-1)
		}
		s.index[at] = uint32(i + 1)
	}
}

// hash spreads device and inode over the index.
func (id identity) hash() uint64 {
	x := (id.ino ^ id.dev<<40) * 0x9e3779b97f4a7c15
	return x ^ x>>29
}

func identityAt(b []byte) identity {
	return identity{
		binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:])),
		int64(binary.LittleEndian.Uint64(b[24:])), int64(binary.LittleEndian.Uint64(b[32:])),
	}
}

func (n *Node) identity() identity { return identity{n.Dev, n.Ino, n.Size, n.Mtime, n.Ctime} }

// get gives a node the sum that is remembered, if there is one.
func (s *statCache) get(n *Node) bool {
	if len(s.index) == 0 {
		return false
	}
	want := n.identity()
	mask := uint64(len(s.index) - 1)
	for at := want.hash() & mask; s.index[at] != 0; at = (at + 1) & mask {
		i := int(s.index[at] - 1)
		if r := s.old[i*recordSize:]; identityAt(r) == want {
			copy(n.sum[:], r[recordSize-len(n.sum):recordSize])
			n.summed, n.settled = true, true
			if !s.used[i] {
				s.used[i] = true
				s.hits++
			}
			return true
		}
	}
	return false
}

// put remembers a node's sum.
func (s *statCache) put(n *Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh[n.identity()] = n.sum
}

// save writes the cache if it learnt something. What was not looked up this time is kept, while that is not the most of it:
// other builds of the same directory may look at other files.
func (s *statCache) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fresh) == 0 {
		return nil
	}
	out := make([]byte, 0, len(cacheMagic)+len(s.old)+len(s.fresh)*recordSize+4)
	out = append(out, cacheMagic...)
	live := s.hits + len(s.fresh)
	keep := len(s.used) < 4*live+10_000
	changed := make(map[[2]uint64]bool, len(s.fresh))
	for id := range s.fresh {
		changed[[2]uint64{id.dev, id.ino}] = true
	}
	for i, used := range s.used {
		if id := identityAt(s.old[i*recordSize:]); used || keep && !changed[[2]uint64{id.dev, id.ino}] {
			out = append(out, s.old[i*recordSize:(i+1)*recordSize]...)
		}
	}
	for id, sum := range s.fresh {
		for _, v := range []uint64{id.dev, id.ino, uint64(id.size), uint64(id.mtime), uint64(id.ctime)} {
			out = binary.LittleEndian.AppendUint64(out, v)
		}
		out = append(out, sum[:]...)
	}
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out[len(cacheMagic):], castagnoli))
	s.old = out[len(cacheMagic) : len(out)-4]
	clear(s.fresh)
	s.hits = 0
	s.build()
	return s.write(out)
}

// write replaces the file as a whole; it is not synced, as a damaged one is recognised.
func (s *statCache) write(raw []byte) error {
	if err := replace(s.name, raw); err != nil {
		return fmt.Errorf("write stat cache: %w", err)
	}
	return nil
}
