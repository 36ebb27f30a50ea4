package fileop

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/testbed/suite"
	"github.com/kistdev/kist/internal/treesum"
)

// world is a store to run operations in.
type world struct {
	t      testing.TB
	layers *layer.Store
	ops    *Ops
	hold   *layer.Hold
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlay mounts")
	}
	layers, err := layer.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	trees, err := treesum.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, layers, New(layers, trees), layers.Hold()}
	t.Cleanup(func() {
		ids, err := layers.Prepared()
		if err != nil || len(ids) > 0 {
			t.Errorf("writable layers left over: %v %v", ids, err)
		}
		w.hold.Release()
		if err := layers.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// file describes a file for tests: "dir/" is a directory, "name -> target" a link, else "name" with its body.
type file struct {
	name, body string
	mode       int64
	uid, gid   int
}

var past = time.Unix(1_500_000_000, 0)

// layer makes a layer of files.
func (w *world) layer(files ...file) digest.Digest {
	w.t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.uid, Gid: f.gid, ModTime: past, Typeflag: tar.TypeReg}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if name, target, ok := strings.Cut(f.name, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
			if f.mode == 0 {
				h.Mode = 0o755
			}
		} else {
			h.Size = int64(len(f.body))
		}
		if err := tw.WriteHeader(h); err != nil {
			w.t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.body)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		w.t.Fatal(err)
	}
	id, err := w.layers.Ingest(w.t.Context(), &buf)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// local makes a directory of the host.
func local(t testing.TB, files ...file) *Local {
	t.Helper()
	l := &Local{Dir: t.TempDir()}
	plant(t, l.Dir, files...)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func plant(t testing.TB, dir string, files ...file) {
	t.Helper()
	for _, f := range files {
		var err error
		name, target, isLink := strings.Cut(f.name, " -> ")
		at := filepath.Join(dir, name)
		switch {
		case isLink:
			err = os.Symlink(target, at)
		case strings.HasSuffix(f.name, "/"):
			err = os.MkdirAll(at, 0o755)
		default:
			if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
				err = os.WriteFile(at, []byte(f.body), 0o644)
			}
		}
		if err == nil {
			err = os.Lchown(at, f.uid, f.gid)
		}
		if err == nil && f.mode != 0 {
			err = unix.Chmod(at, uint32(f.mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(dir, func(at string, _ fs.DirEntry, err error) error {
		ts := []unix.Timespec{unix.NsecToTimespec(past.UnixNano()), unix.NsecToTimespec(past.UnixNano())}
		if err == nil {
			err = unix.UtimesNanoAt(unix.AT_FDCWD, at, ts, unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// show lists what layers are, one file a line: "mode uid:gid path content".
func (w *world) show(layers ...digest.Digest) string {
	w.t.Helper()
	root, err := w.layers.OpenStack(layers)
	if err != nil {
		w.t.Fatal(err)
	}
	defer root.Close()
	return show(w.t, fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
}

func show(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir+"/.", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil || rel == "." {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%06o %d:%d %s", st.Mode, st.Uid, st.Gid, rel)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			body, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			line += " " + string(body)
		case unix.S_IFLNK:
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Mtim.Sec == past.Unix() {
			line += " (old)"
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// copyOp is an operation of copies from input 1 to input 0.
func copyOp(copies ...*pb.FileActionCopy) *pb.FileOp {
	op := new(pb.FileOp)
	for i, c := range copies {
		a := &pb.FileAction{Input: int64(i + 1), SecondaryInput: 1, Output: -1, Action: &pb.FileAction_Copy{Copy: c}}
		if i == 0 {
			a.Input = 0
		}
		if i == len(copies)-1 {
			a.Output = 0
		}
		op.Actions = append(op.Actions, a)
	}
	return op
}

// dockerfile is a copy as COPY in a Dockerfile makes it.
func dockerfile(src, dst string) *pb.FileActionCopy {
	return &pb.FileActionCopy{
		Src: src, Dest: dst, Mode: -1, Timestamp: -1, FollowSymlink: true, DirCopyContents: true, CreateDestPath: true,
		AllowWildcard: true, AllowEmptyWildcard: true,
	}
}

func (w *world) run(op *pb.FileOp, inputs ...Source) *Result {
	w.t.Helper()
	res, err := w.ops.Run(context.Background(), op, inputs, w.hold)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func mkdir(path string, mode int32, parents bool) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: path, Mode: mode, MakeParents: parents, Timestamp: -1}}}
}

func mkfile(path, data string) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: path, Mode: 0o640, Data: []byte(data), Timestamp: past.UnixNano()}}}
}

func symlink(target, path string) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Symlink{Symlink: &pb.FileActionSymlink{Oldpath: target, Newpath: path, Timestamp: past.UnixNano()}}}
}

func rm(path string, missing, wildcard bool) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: path, AllowNotFound: missing, AllowWildcard: wildcard}}}
}

// chain runs actions one after the other on the first input.
func chain(inputs int, actions ...*pb.FileAction) *pb.FileOp {
	op := new(pb.FileOp)
	for i, a := range actions {
		a.SecondaryInput, a.Output = -1, -1
		if a.GetCopy() != nil {
			a.SecondaryInput = 1
		}
		if i > 0 {
			a.Input = int64(inputs + i - 1)
		}
		if i == len(actions)-1 {
			a.Output = 0
		}
		op.Actions = append(op.Actions, a)
	}
	return op
}

// TestMain sets a mask that is known: modes are compared.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	suite.InMemory(m)
}
