package fileop

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
)

// TestSmallActions runs the actions that make or remove one thing, on a base, and looks at the difference to the base.
func TestSmallActions(t *testing.T) {
	w := newWorld(t)
	base := w.layer(baseFiles...)
	for _, c := range []struct {
		name    string
		actions []*pb.FileAction
		want    string // lines that are new, "-" before those that are gone; or what the error says
	}{
		{"mkdir", []*pb.FileAction{mkdir("/n", 0o750, false)}, "040750 0:0 n"},
		{"mkdir there", []*pb.FileAction{mkdir("/app", 0o700, false)}, ""},
		{"mkdir file there", []*pb.FileAction{mkdir("/file", 0o700, false)}, ""},
		{"mkdir no parent", []*pb.FileAction{mkdir("/no/n", 0o700, false)}, "no such file"},
		{"mkdir parents", []*pb.FileAction{mkdir("/p/q/r", 0o711, true)}, "040711 0:0 p,040711 0:0 p/q,040711 0:0 p/q/r"},
		{"mkdir parents there", []*pb.FileAction{mkdir("/link", 0o711, true)}, ""},
		{"mkdir through link", []*pb.FileAction{mkdir("/lib/x", 0o755, true)}, "040755 0:0 usr/lib/x"},
		{"mkdir dangling", []*pb.FileAction{mkdir("/dangling", 0o755, true)}, "040755 0:0 app/new"},
		{"mkdir file in way", []*pb.FileAction{mkdir("/file/x", 0o755, true)}, "not a directory"},
		{"mkdir escape", []*pb.FileAction{mkdir("/escape/x", 0o755, true)}, "040755 0:0 tmp,040755 0:0 tmp/x"},
		{"mkdir loop", []*pb.FileAction{mkdir("/loop/x", 0o755, true)}, "too many"},
		{"mkdir setgid", []*pb.FileAction{mkdir("/mine/x", 0o755, true)}, "040755 0:0 mine/x"},
		{"mkdir root", []*pb.FileAction{mkdir("/", 0o755, true)}, ""},
		{"mkfile", []*pb.FileAction{mkfile("/n", "N")}, "100640 0:0 n N (old)"},
		{"mkfile replaces", []*pb.FileAction{mkfile("/file", "N")}, "-100644 0:0 file f (old),100640 0:0 file N (old)"},
		{"mkfile through link", []*pb.FileAction{mkfile("/app/lnk", "N")}, "-100644 0:0 app/keep k (old),100640 0:0 app/keep N (old)"},
		{"mkfile on dir", []*pb.FileAction{mkfile("/app", "N")}, "is a directory"},
		{"mkfile root", []*pb.FileAction{mkfile("/", "N")}, "is a directory"},
		{"mkfile no parent", []*pb.FileAction{mkfile("/no/n", "N")}, "no such file"},
		{"symlink", []*pb.FileAction{symlink("../x", "/app/s")}, "120777 0:0 app/s -> ../x (old)"},
		{"symlink there", []*pb.FileAction{symlink("x", "/file")}, "file exists"},
		{"rm", []*pb.FileAction{rm("/file", false, false)}, "-100644 0:0 file f (old)"},
		{"rm dir", []*pb.FileAction{rm("/app/dir", false, false)}, "-040755 0:0 app/dir,-040755 0:0 app/dir/x,-100644 0:0 app/dir/x/deep d (old)"},
		{"rm link", []*pb.FileAction{rm("/link", false, false)}, "-120777 0:0 link -> app (old)"},
		{"rm through link", []*pb.FileAction{rm("/link/keep", false, false)}, "-100644 0:0 app/keep k (old)"},
		{"rm missing", []*pb.FileAction{rm("/no", false, false)}, "no such file"},
		{"rm missing allowed", []*pb.FileAction{rm("/no/no", true, false)}, ""},
		{"rm root", []*pb.FileAction{rm("/", true, false)}, "invalid"},
		{"rm wildcard", []*pb.FileAction{rm("/app/[ak]*", false, true)}, "-100644 0:0 app/a.txt old (old),-100644 0:0 app/keep k (old)"},
		{"rm wildcard none", []*pb.FileAction{rm("/zzz*", false, true)}, ""},
		{"rm wildcard through link", []*pb.FileAction{rm("/link/a*", false, true)}, "-100644 0:0 app/a.txt old (old)"},
		{"rm and make file", []*pb.FileAction{rm("/app/dir", false, false), mkfile("/app/dir", "N")}, "-040755 0:0 app/dir,-040755 0:0 app/dir/x,-100644 0:0 app/dir/x/deep d (old),100640 0:0 app/dir N (old)"},
		{"rm and make dir", []*pb.FileAction{rm("/app/dir", false, false), mkdir("/app/dir", 0o755, false)}, "-040755 0:0 app/dir/x,-100644 0:0 app/dir/x/deep d (old)"},
		{"make and rm", []*pb.FileAction{mkfile("/n", "N"), rm("/n", false, false)}, ""},
		{"rm and make twice", []*pb.FileAction{rm("/file", false, false), mkdir("/file", 0o755, false), mkfile("/file/x", "X"), rm("/file", false, false)}, "-100644 0:0 file f (old)"},
		{"mkdir below rm", []*pb.FileAction{rm("/app", false, false), mkdir("/app/dir/z", 0o755, true)}, "-040755 0:0 app/dir/x,-100644 0:0 app/a.txt old (old),-100644 0:0 app/dir/x/deep d (old),-100644 0:0 app/keep k (old),-120777 0:0 app/lnk -> keep (old),040755 0:0 app/dir/z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := w.ops.Run(t.Context(), chain(1, c.actions...), []Source{{Layers: []digest.Digest{base}}}, w.hold)
			if err != nil {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			before, after := w.show(base), w.show(res.Outputs[0].Layers...)
			var lines []string
			if gone := difference(before, after); gone != "" {
				lines = append(lines, "-"+strings.ReplaceAll(gone, "\n", ",-"))
			}
			if made := difference(after, before); made != "" {
				lines = append(lines, strings.ReplaceAll(made, "\n", ","))
			}
			if got := strings.Join(lines, ","); got != c.want {
				t.Errorf("\n%s\nwant\n%s", got, c.want)
			}
			top := res.Outputs[0].Layers[len(res.Outputs[0].Layers)-1]
			if (c.want == "") != (top == layer.Empty) || (c.want == "") != (len(res.Outputs[0].Added) == 0) {
				t.Error("the layer on top is", top)
			}
		})
	}
}

// TestOwnerByName resolves names by the passwd and group of inputs.
func TestOwnerByName(t *testing.T) {
	w := newWorld(t)
	users := w.layer(file{name: "etc/"}, file{name: "etc/passwd", body: "root:x:0:0::/:/\napp:x:101:102::/:/\n"}, file{name: "etc/group", body: "root:x:0:\nstaff:x:50:\n"})
	linked := w.layer(file{name: "etc/"}, file{name: "etc/passwd -> /real/passwd"}, file{name: "real/"}, file{name: "real/passwd", body: "app:x:201:202::/:/\n"})
	hostile := w.layer(file{name: "etc/"}, file{name: "etc/passwd -> ../../../../../../../etc/passwd"})
	name := func(n string, input int64) *pb.UserOpt {
		return &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: n, Input: input}}}
	}
	id := func(n uint32) *pb.UserOpt { return &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: n}} }
	for _, c := range []struct {
		opt   *pb.ChownOpt
		in    digest.Digest
		want  string
		error bool
	}{
		{&pb.ChownOpt{User: name("app", 0)}, users, "101:102", false},
		{&pb.ChownOpt{User: name("app", 0), Group: name("staff", 0)}, users, "101:50", false},
		{&pb.ChownOpt{User: id(7)}, users, "7:7", false},
		{&pb.ChownOpt{User: id(7), Group: id(8)}, users, "7:8", false},
		{&pb.ChownOpt{Group: name("staff", 0)}, users, "0:50", false},
		{&pb.ChownOpt{User: name("nobody-here", 0)}, users, "0:0", false},
		{&pb.ChownOpt{User: name("app", 0)}, linked, "201:202", false},
		{&pb.ChownOpt{User: name("root", 0)}, hostile, "0:0", false},
		{&pb.ChownOpt{User: name("app", 9)}, users, "", true},
	} {
		a := mkdir("/n", 0o755, true)
		a.GetMkdir().Owner = c.opt
		res, err := w.ops.Run(t.Context(), chain(1, a), []Source{{Layers: []digest.Digest{c.in}}}, w.hold)
		if c.error {
			if !errdefs.IsInvalidArgument(err) {
				t.Error(c.opt, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := w.show(res.Outputs[0].Layers...); !strings.Contains(got, "040755 "+c.want+" n") {
			t.Errorf("%v: %s", c.opt, got)
		}
	}
}
