package test

import (
	"archive/tar"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/testbed"
)

var (
	staleRounds = flag.Int("stale-rounds", 10, "rounds of TestBuildsSeeEveryChange")
	staleSeed   = flag.Uint64("stale-seed", 1, "seed of TestBuildsSeeEveryChange")
)

// TestBuildsSeeEveryChange changes two directories in all the ways in which files change, with builds in between, alone and beside
// each other, and compares what is in the images with the directories. Of a directory that is changed during a build, the next build
// has to be right.
func TestBuildsSeeEveryChange(t *testing.T) {
	needBin(t)
	h := testbed.NewHost(t)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	b := &staleBed{t: t, h: h}
	for i, text := range []string{
		"FROM scratch\nCOPY . /all\n",
		"FROM kist.test/busybox\nRUN --mount=type=bind,target=/src mkdir /all && cp -a /src/. /all/\n",
		"FROM scratch AS x\nCOPY . /x\nFROM scratch\nCOPY --from=x /x /all\n",
	} {
		file := filepath.Join(h.Dir, fmt.Sprintf("Dockerfile%d", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b.files = append(b.files, file)
	}
	r := rand.New(rand.NewPCG(*staleSeed, 0))
	a, c := b.plant("a", 2100, r), b.plant("c", 60, r) // The first is large enough for what is done for large ones only.
	for round := range *staleRounds {
		for range 1 + r.IntN(3) {
			a.change()
		}
		c.change()
		what := b.round(r, a, c)
		if t.Failed() {
			t.Fatalf("in round %d (%s); changes of late:\n%s\nand\n%s", round, what, a.late(), c.late())
		}
	}
}

// staleBed is a host on which is built.
type staleBed struct {
	t     *testing.T
	h     *testbed.Host
	files []string // Dockerfiles: each makes an image with the context in /all
}

// round builds in one of the ways in which it can be, and says which.
func (b *staleBed) round(r *rand.Rand, a, c *staleTree) string {
	one, other := r.IntN(len(b.files)), r.IntN(len(b.files))
	switch kind := r.IntN(6); kind {
	case 0, 1, 2:
		b.build(a, one)
		return "alone"
	case 3:
		beside(func() { b.build(a, one) }, func() { b.build(c, other) })
		return "two directories"
	case 4:
		beside(func() { b.build(a, one) }, func() { b.build(a, other) })
		return "one directory twice"
	}
	// A third directory is as one that is changed while it is built: what is made of that must not get into this one's image.
	twin := filepath.Join(b.h.Dir, "twin")
	b.h.Run("rm", "-rf", twin)
	b.h.Run("cp", "-a", a.dir, twin)
	done := make(chan struct{})
	beside(func() { _, _ = b.image(a.dir, one); close(done) }, func() { b.build(&staleTree{dir: twin}, one) }, func() {
		for ; ; a.change() {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(a.rand.IntN(3000)) * time.Microsecond): // Longer than a step takes to be looked at, or not.
			}
		}
	})
	b.build(a, one)
	return "changes during a build"
}

func beside(fns ...func()) {
	var all sync.WaitGroup
	for _, fn := range fns {
		all.Go(fn)
	}
	all.Wait()
}

// build builds and compares.
func (b *staleBed) build(tree *staleTree, file int) {
	got, err := b.image(tree.dir, file)
	if err != nil {
		b.t.Errorf("Dockerfile %d: %v", file, err)
		return
	}
	want, err := filesBelow(tree.dir)
	if err != nil {
		b.t.Error(err)
		return
	}
	if maps.Equal(got, want) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			b.t.Errorf("Dockerfile %d of %s: %s is %q in the image and %q in the directory", file, filepath.Base(tree.dir), name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			b.t.Errorf("Dockerfile %d of %s: %s is in the image only", file, filepath.Base(tree.dir), name)
		}
	}
	again, err := b.h.Try("sh", "-c", `exec kist build --progress=plain -f "$1" "$2" 2>&1`, "sh", b.files[file], tree.dir)
	b.t.Logf("the same build again: %v\n%s", err, again)
}

// image builds, and tells the files below /all.
func (b *staleBed) image(dir string, file int) (map[string]string, error) {
	out := filepath.Join(b.t.TempDir(), "image.tar")
	if _, err := b.h.Try("kist", "build", "-q", "-f", b.files[file], "-o", "type=tar,dest="+out, dir); err != nil {
		return nil, explained(err)
	}
	f, err := os.Open(out)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer os.Remove(out)
	found := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(path.Clean(h.Name), "all/")
		if !ok {
			continue
		}
		switch h.Typeflag {
		case tar.TypeLink:
			found[name] = found[strings.TrimPrefix(path.Clean(h.Linkname), "all/")]
		case tar.TypeSymlink:
			found[name] = "-> " + h.Linkname
		case tar.TypeDir:
			found[name] = fmt.Sprintf("directory %o", h.Mode&0o7777)
		default:
			body, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			found[name] = fmt.Sprintf("%o %s", h.Mode&0o7777, body)
		}
	}
}

// filesBelow tells a directory's files as image does.
func filesBelow(dir string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		name := strings.TrimPrefix(at, dir+"/")
		fi, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			found[name] = fmt.Sprintf("directory %o", fi.Mode().Perm())
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(at)
			found[name] = "-> " + target
			return err
		default:
			body, err := os.ReadFile(at)
			found[name] = fmt.Sprintf("%o %s", fi.Mode().Perm(), body)
			return err
		}
		return nil
	})
	return found, err
}

// staleTree is a directory that changes.
type staleTree struct {
	dir    string
	t      *testing.T
	rand   *rand.Rand
	log    []string
	maps   [][]byte
	before map[string]string // what a file was, to be put back
}

const staleBody = 24

// plant makes a directory of files, all of one size.
func (b *staleBed) plant(name string, n int, r *rand.Rand) *staleTree {
	b.t.Helper()
	s := &staleTree{dir: filepath.Join(b.h.Dir, name), t: b.t, rand: rand.New(rand.NewPCG(r.Uint64(), 0)), before: map[string]string{}}
	b.t.Cleanup(func() {
		for _, m := range s.maps {
			_ = unix.Munmap(m)
		}
	})
	for i := range n {
		s.must(os.MkdirAll(filepath.Dir(s.path(i)), 0o755))
		s.must(os.WriteFile(s.path(i), []byte(s.body()), 0o644))
	}
	return s
}

func (s *staleTree) path(i int) string {
	return filepath.Join(s.dir, fmt.Sprintf("d%d/f%d", i%20, i/20))
}

func (s *staleTree) body() string { return fmt.Sprintf("%0*x", staleBody, s.rand.Uint64()) }

func (s *staleTree) must(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // An earlier change has taken it.
		s.t.Errorf("change %s: %v", s.dir, err)
	}
}

// some is a file, of few, so that the same ones change again.
func (s *staleTree) some() string { return s.path(s.rand.IntN(60)) }

// late are the last changes.
func (s *staleTree) late() string { return strings.Join(s.log[max(0, len(s.log)-12):], "\n") }

// change makes one change.
func (s *staleTree) change() {
	at, kind := s.some(), s.rand.IntN(14)
	s.log = append(s.log, fmt.Sprintf("%d %s", kind, at))
	switch kind {
	case 0, 1:
		s.overwrite(at, s.body())
	case 2:
		s.forge(at, func() { s.overwrite(at, s.body()) })
	case 3:
		s.forge(at, func() {
			s.must(os.WriteFile(s.dir+"/new", []byte(s.body()), 0o644))
			s.must(os.Rename(s.dir+"/new", at))
		})
	case 4, 5:
		s.store(at)
	case 6:
		s.must(os.WriteFile(at+"-more", []byte(s.body()), 0o644))
	case 7:
		s.must(os.RemoveAll(at + "-more"))
	case 8:
		s.must(os.Chmod(at, fs.FileMode(0o600+s.rand.IntN(64))))
	case 9:
		s.must(os.RemoveAll(at + "-link"))
		s.must(os.Symlink(fmt.Sprint("to", s.rand.IntN(10)), at+"-link"))
	case 10: // Two directories change places.
		one, two := filepath.Dir(at), filepath.Dir(s.some())
		if one != two {
			s.must(unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_EXCHANGE))
		}
	case 11:
		s.must(os.RemoveAll(at + "-hard"))
		s.must(os.Link(at, at+"-hard"))
	case 12:
		s.must(os.Truncate(at, int64(1+s.rand.IntN(staleBody))))
	case 13:
		s.back(at)
	}
}

// overwrite writes in place, as many bytes as there are.
func (s *staleTree) overwrite(at, body string) {
	f, err := os.OpenFile(at, os.O_RDWR, 0)
	if err != nil {
		s.must(err)
		return
	}
	defer f.Close()
	was, err := io.ReadAll(f)
	s.must(err)
	s.before[at] = string(was)
	_, err = f.WriteAt([]byte(body), 0)
	s.must(err)
}

// back puts back what a file was.
func (s *staleTree) back(at string) {
	if was, ok := s.before[at]; ok {
		s.forge(at, func() { s.overwrite(at, was) })
	}
}

// forge changes a file and puts its time back.
func (s *staleTree) forge(at string, change func()) {
	fi, err := os.Stat(at)
	if err != nil {
		s.must(err)
		return
	}
	change()
	s.must(os.Chtimes(at, fi.ModTime(), fi.ModTime()))
}

// store changes a byte of a mapped file: of one that is mapped for longer, or only for now.
func (s *staleTree) store(at string) {
	if n := len(s.maps); n > 0 && s.rand.IntN(3) > 0 {
		s.maps[s.rand.IntN(n)][0] = byte('g' + s.rand.IntN(20))
		return
	}
	f, err := os.OpenFile(at, os.O_RDWR, 0)
	if err != nil {
		s.must(err)
		return
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() == 0 {
		s.must(err)
		return
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		s.must(err)
		return
	}
	m[0] = byte('g' + s.rand.IntN(20))
	if s.rand.IntN(2) > 0 {
		s.must(unix.Munmap(m))
		return
	}
	s.maps = append(s.maps, m)
}
