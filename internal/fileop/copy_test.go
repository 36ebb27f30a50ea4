package fileop

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	fsutil "github.com/tonistiigi/fsutil/copy"
)

// source and destination of the table: what a context and a base image may hold.
var (
	contextFiles = []file{
		{name: "a.txt", body: "A"},
		{name: "b.txt", body: "B", mode: 0o600},
		{name: "run.sh", body: "#!", mode: 0o755},
		{name: "suid", body: "s", mode: 0o4755},
		{name: "dir/"},
		{name: "dir/x", body: "X"},
		{name: "dir/sub/y", body: "Y"},
		{name: "dir/sub/z.go", body: "Z"},
		{name: "dir/.hidden", body: "H"},
		{name: "other/x", body: "X2"},
		{name: "empty/"},
		{name: "tree/p/q/r.go", body: "R"},
		{name: "tree/p/q/r.md", body: "M"},
		{name: "tree/p/s.go", body: "S"},
		{name: "tree/v/w.md", body: "W"},
		{name: "locked/", mode: 0o700},
		{name: "locked/in", body: "I"},
		{name: "lf -> a.txt"},
		{name: "ld -> dir"},
		{name: "up -> ../../etc/passwd"},
		{name: "nowhere -> missing"},
		{name: "dir/abs -> /a.txt"},
		{name: "owned", body: "O", uid: 7, gid: 8},
	}
	baseFiles = []file{
		{name: "app/"},
		{name: "app/a.txt", body: "old"},
		{name: "app/dir/"},
		{name: "app/dir/x/"},
		{name: "app/dir/x/deep", body: "d"},
		{name: "app/keep", body: "k"},
		{name: "file", body: "f"},
		{name: "link -> app"},
		{name: "dangling -> app/new"},
		{name: "escape -> ../../../../tmp"},
		{name: "usr/"},
		{name: "usr/lib/"},
		{name: "lib -> usr/lib"},
		{name: "mine/", mode: 0o2775, uid: 5, gid: 6},
		{name: "app/lnk -> keep"},
		{name: "loop -> loop"},
	}
)

// copyCase is a copy with what is special about it.
type copyCase struct {
	name string
	op   *pb.FileActionCopy
	who  *owner
}

func with(c *pb.FileActionCopy, change func(*pb.FileActionCopy)) *pb.FileActionCopy {
	change(c)
	return c
}

func copyCases() []copyCase {
	var list []copyCase
	for _, src := range []string{
		"/", "/a.txt", "/dir", "/dir/", "/dir/.", "/*", "/*.txt", "/d*", "/dir/*", "/dir/sub/*.go", "/lf", "/ld", "/ld/", "/ld/sub",
		"/nowhere", "/up", "/empty", "/locked", "/missing", "/mis*", "/missing/*", "/*/x", "/suid", "/dir/abs", "/..", "/dir/../a.txt",
	} {
		for i, dst := range []string{
			"/new", "/app/", "/file", "/dangling", "/", "/new/", "/app", "/app/dir", "/link", "/link/", "/dangling/", "/escape/x",
			"/lib/deep/er", "/mine/", "/app/lnk", "/app/keep/x", "/loop/x", "/../up", "/new/.",
		} {
			if i < 4 || src == "/a.txt" || src == "/dir" || src == "/dir/*" || src == "/ld/" {
				list = append(list, copyCase{name: src + " " + dst, op: dockerfile(src, dst)})
			}
		}
	}
	plain := &pb.FileActionCopy{Mode: -1, Timestamp: -1, CreateDestPath: true}
	like := func(src, dst string, change func(*pb.FileActionCopy)) *pb.FileActionCopy {
		c := plain.CloneVT()
		c.Src, c.Dest = src, dst
		if change != nil {
			change(c)
		}
		return c
	}
	more := func(name string, c *pb.FileActionCopy, who *owner) { list = append(list, copyCase{name, c, who}) }
	more("plain dir", like("/dir", "/app", nil), nil)
	more("plain dir new", like("/dir", "/new", nil), nil)
	more("plain root", like("/", "/new/", nil), nil)
	more("plain link", like("/lf", "/new", nil), nil)
	more("plain dir link", like("/ld", "/new", nil), nil)
	more("no dest path", like("/a.txt", "/no/such", func(c *pb.FileActionCopy) { c.CreateDestPath = false }), nil)
	more("dest path there", like("/a.txt", "/app/n", func(c *pb.FileActionCopy) { c.CreateDestPath = false }), nil)
	more("wildcard empty refused", like("/mis*", "/new", func(c *pb.FileActionCopy) { c.AllowWildcard = true }), nil)
	more("star literally", like("/a*", "/new", nil), nil)
	for _, m := range []int32{0o640, 0o755, 0o4755, 0o2750, 0o1777} {
		more("mode", with(dockerfile("/dir", "/new/at/"), func(c *pb.FileActionCopy) { c.Mode = m }), nil)
		more("mode file", with(dockerfile("/a.txt", "/new/at/f"), func(c *pb.FileActionCopy) { c.Mode = m }), nil)
	}
	for _, m := range []string{"u=rwX,go=rX", "a+x", "go-rwx", "u+s", "+t", "g=u", "u=rw,go="} {
		more("mode "+m, with(dockerfile("/dir", "/new/"), func(c *pb.FileActionCopy) { c.ModeStr = m }), nil)
		more("mode file "+m, with(dockerfile("/run.sh", "/new/"), func(c *pb.FileActionCopy) { c.ModeStr = m }), nil)
		more("mode suid "+m, with(dockerfile("/suid", "/app/dir/"), func(c *pb.FileActionCopy) { c.ModeStr = m }), nil)
	}
	who := &owner{1000, 2000}
	more("chown", dockerfile("/dir", "/new/at/"), who)
	more("chown existing", dockerfile("/dir", "/app/"), who)
	more("chown setgid parent", dockerfile("/dir", "/mine/new"), who)
	more("chown link", dockerfile("/*", "/new/"), who)
	more("time", with(dockerfile("/dir", "/new/at/"), func(c *pb.FileActionCopy) { c.Timestamp = past.UnixNano() }), nil)
	for _, p := range [][2][]string{
		{{"**/*.go"}, nil},
		{{"p"}, nil},
		{{"p/q"}, nil},
		{{"*/q/*.md"}, nil},
		{nil, {"**/*.md"}},
		{nil, {"p", "!p/q/r.go"}},
		{nil, {"*", "!v"}},
		{{"p"}, {"p/q"}},
		{{"p", "v"}, {"**/*.md", "!p/q/r.md"}},
		{{"none"}, nil},
		{nil, {"**"}},
		{{"p/q/r.go"}, nil},
		{{"p/*"}, {"p/q/*.md"}},
		{nil, {"p/q/", " v "}},
	} {
		change := func(c *pb.FileActionCopy) { c.IncludePatterns, c.ExcludePatterns = p[0], p[1] }
		name := strings.Join(p[0], " ") + " not " + strings.Join(p[1], " ")
		more(name, with(dockerfile("/tree", "/new/"), change), nil)
		more(name+" onto", with(dockerfile("/tree", "/app/"), change), nil)
	}
	always := func(c *pb.FileActionCopy) { c.AlwaysReplaceExistingDestPaths = true }
	more("replace dir by file", with(dockerfile("/dir", "/app/dir"), always), nil)
	more("replace file by dir", with(like("/dir", "/file", always), always), nil)
	more("replace all", with(dockerfile("/", "/app/"), always), nil)
	return list
}

// TestCopyAsBuildKit copies by this package and by the one that BuildKit's workers use, and compares what comes out.
func TestCopyAsBuildKit(t *testing.T) {
	w := newWorld(t)
	base, src := w.layer(baseFiles...), w.layer(contextFiles...)
	from := t.TempDir()
	plant(t, from, contextFiles...)
	for _, c := range copyCases() {
		t.Run(c.name, func(t *testing.T) {
			to := t.TempDir()
			plant(t, to, baseFiles...)
			theirErr := theirs(t.Context(), from, to, c)
			op := copyOp(c.op)
			if c.who != nil {
				c.op.Owner = &pb.ChownOpt{
					User:  &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: uint32(c.who.uid)}},
					Group: &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: uint32(c.who.gid)}},
				}
			}
			res, err := w.ops.Run(t.Context(), op, []Source{{Layers: []digest.Digest{base}}, {Layers: []digest.Digest{src}}}, w.hold)
			if (err == nil) != (theirErr == nil) {
				t.Fatalf("error %v, BuildKit's is %v", err, theirErr)
			}
			if err != nil {
				return
			}
			want := show(t, to)
			if got := w.show(res.Outputs[0].Layers...); got != want {
				t.Errorf("got\n%s\nBuildKit makes\n%s", difference(got, want), difference(want, got))
			}
		})
	}
}

// difference is the lines of a that b lacks.
func difference(a, b string) string {
	have := make(map[string]bool)
	for line := range strings.SplitSeq(b, "\n") {
		have[line] = true
	}
	var out []string
	for line := range strings.SplitSeq(a, "\n") {
		if !have[line] {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// theirs does what BuildKit's file backend does around the copy.
func theirs(ctx context.Context, from, to string, c copyCase) error {
	src, dst := clean(c.op.Src), clean(c.op.Dest)
	if !c.op.CreateDestPath {
		if _, err := os.Lstat(filepath.Dir(filepath.Join(to, c.op.Dest))); err != nil {
			return err
		}
	}
	var chown fsutil.Chowner
	if c.who != nil {
		chown = func(*fsutil.User) (*fsutil.User, error) { return &fsutil.User{UID: c.who.uid, GID: c.who.gid}, nil }
	} else {
		chown = func(old *fsutil.User) (*fsutil.User, error) { return old, nil }
	}
	sources := []string{src}
	if c.op.AllowWildcard {
		var err error
		if sources, err = fsutil.ResolveWildcards(from, src, c.op.FollowSymlink); err != nil {
			return err
		}
		if len(sources) == 0 && !c.op.AllowEmptyWildcard {
			return os.ErrNotExist
		}
	}
	for _, s := range sources {
		err := fsutil.Copy(ctx, from, s, to, dst, func(ci *fsutil.CopyInfo) {
			ci.IncludePatterns, ci.ExcludePatterns, ci.Chown = c.op.IncludePatterns, c.op.ExcludePatterns, chown
			if c.op.Timestamp != -1 {
				at := past
				ci.Utime = &at
			}
			if m := int(c.op.Mode); c.op.ModeStr != "" {
				ci.ModeStr = c.op.ModeStr
			} else if m != -1 {
				ci.Mode = &m
			}
			ci.CopyDirContents, ci.FollowLinks = c.op.DirCopyContents, c.op.FollowSymlink
			ci.AlwaysReplaceExistingDestPaths = c.op.AlwaysReplaceExistingDestPaths
		}, fsutil.WithXAttrErrorHandler(func(string, string, string, error) error { return nil }))
		if err != nil {
			return err
		}
	}
	return nil
}

// clean keeps the endings that mean something.
func clean(name string) string {
	out := path.Join("/", name)
	switch {
	case strings.HasSuffix(name, "/."):
		return strings.TrimSuffix(out, "/") + "/."
	case strings.HasSuffix(name, "/") && out != "/":
		return out + "/"
	}
	return out
}
