package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// disks looks at where the data root and the exec root are.
func disks(_ context.Context, h *host) []Finding {
	var list []Finding
	for _, d := range []struct{ name, dir, try string }{
		{"data root", h.DataRoot, "kist system df, kist image prune -a, kist builder prune"},
		{"exec root", h.ExecRoot, "make room on " + mountOf(h.ExecRoot)},
	} {
		list = append(list, space(d.name, d.dir, d.try)...)
		if f := writable(d.name, d.dir); f != nil {
			list = append(list, *f)
		}
	}
	return list
}

// Parts of a file system that are little, and too little; and bytes that are too little whatever part they are.
const (
	littleRoom = 10 // a tenth
	noRoom     = 50 // a fiftieth
	fewBytes   = 64 << 20
)

func space(name, dir, try string) []Finding {
	at := existing(dir)
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return []Finding{fail(name, at+": "+err.Error(), "mount it, or kistd --data-root DIRECTORY")}
	}
	size, free := st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize)
	text := fmt.Sprintf("%s (%s): %s free of %s", dir, fileSystem(at), units.BytesSize(float64(free)), units.BytesSize(float64(size)))
	if st.Files > 0 {
		text += fmt.Sprintf(", %d inodes free of %d", st.Ffree, st.Files)
	}
	switch {
	case size > 0 && (free < size/noRoom && free < 8*fewBytes || free < fewBytes && name == "data root"), st.Files > 0 && st.Ffree < st.Files/noRoom:
		switch {
		case free >= size/noRoom && (st.Files == 0 || st.Ffree >= st.Files/noRoom):
			text += ": too small for images"
		case free >= size/noRoom:
			text += ": it has no inodes left"
		default:
			text += ": it is full"
		}
		return []Finding{fail(name, text, try)}
	case size > 0 && free < size/littleRoom, st.Files > 0 && st.Ffree < st.Files/littleRoom:
		return []Finding{warn(name, text+": it is nearly full", try)}
	}
	return []Finding{ok(name, text)}
}

// writable makes a file, and says why that cannot be done; nil if it can.
func writable(name, dir string) *Finding {
	at := existing(dir)
	f, err := os.CreateTemp(at, ".kist-doctor-*")
	if err == nil {
		_, err = f.Write(make([]byte, 4096))
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err == nil {
		return nil
	}
	found := fail(name, "nothing can be written to "+at+": "+err.Error(), "check its owner and mount options: findmnt -T "+at)
	if errors.Is(err, unix.ENOSPC) {
		found.Try = "kist system df, kist image prune -a"
	}
	return &found
}

// fileSystem names the type of what the path is on, as the mount table does.
func fileSystem(path string) string {
	_, kind := mountAt(path)
	if kind == "" {
		return "unknown file system"
	}
	return kind
}

func mountOf(path string) string {
	at, _ := mountAt(path)
	return at
}

// mountAt finds the mount that a path is in.
func mountAt(path string) (at, kind string) {
	path = existing(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for _, m := range mounts() {
		if (path == m.at || m.at == "/" || strings.HasPrefix(path, m.at+"/")) && len(m.at) >= len(at) {
			at, kind = m.at, m.kind
		}
	}
	return at, kind
}

// mounted is a line of the mount table.
type mounted struct{ at, kind string }

func mounts() []mounted {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var list []mounted
	for l := range strings.Lines(string(b)) {
		before, after, found := strings.Cut(l, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if found && len(f) > 4 && len(g) > 0 {
			list = append(list, mounted{unescape.Replace(f[4]), g[0]})
		}
	}
	return list
}
