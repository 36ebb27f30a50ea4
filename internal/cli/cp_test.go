package cli

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archiveOf makes a tar of headers; regular files hold their own name.
func archiveOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	w.Close()
	return &b
}

func TestUnpackTree(t *testing.T) {
	dir := t.TempDir()
	b := archiveOf(t, tar.Header{Name: "src/", Typeflag: tar.TypeDir}, tar.Header{Name: "src/f", Typeflag: tar.TypeReg, Mode: 0o4755},
		tar.Header{Name: "src/l", Typeflag: tar.TypeSymlink, Linkname: "f"}, tar.Header{Name: "src/h", Typeflag: tar.TypeLink, Linkname: "src/f"})
	n, err := unpack(b, filepath.Join(dir, "new"), false)
	if err != nil || n != 5 {
		t.Fatal(n, err)
	}
	for _, name := range []string{"f", "l", "h"} {
		if b, err := os.ReadFile(filepath.Join(dir, "new", name)); string(b) != "src/f" {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "new/f")); err != nil || st.Mode() != 0o755 {
		t.Errorf("set-uid came along: %v %v", st.Mode(), err)
	}
}

// TestUnpackHostile has archives that try to write outside of the target.
func TestUnpackHostile(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"parent":        {{Name: "s/", Typeflag: tar.TypeDir}, {Name: "s/../../out", Typeflag: tar.TypeReg}},
		"other root":    {{Name: "s/", Typeflag: tar.TypeDir}, {Name: "out", Typeflag: tar.TypeReg}},
		"link, through": {{Name: "s/", Typeflag: tar.TypeDir}, {Name: "s/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, {Name: "s/l/out", Typeflag: tar.TypeReg}},
		"hard link":     {{Name: "s/", Typeflag: tar.TypeDir}, {Name: "s/h", Typeflag: tar.TypeLink, Linkname: "s/../../secret"}},
		"device":        {{Name: "s/", Typeflag: tar.TypeDir}, {Name: "s/d", Typeflag: tar.TypeChar}},
		"root is out":   {{Name: "../out", Typeflag: tar.TypeReg}},
	} {
		top := t.TempDir()
		dir := filepath.Join(top, "a", "b")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, "secret"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := unpack(archiveOf(t, headers...), filepath.Join(dir, "t"), false)
		if err == nil && name != "root is out" {
			t.Errorf("%s: unpacked", name)
		}
		for _, p := range []string{"out", "a/out", "a/b/out"} {
			if _, err := os.Lstat(filepath.Join(top, p)); err == nil {
				t.Errorf("%s: wrote %s", name, p)
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, _ = unpack(bytes.NewReader(b), filepath.Join(dir, "t"), false)
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 1 {
			t.Errorf("%v %v", entries, err)
		}
		if entries, err = os.ReadDir(dir); err != nil || len(entries) > 1 {
			t.Errorf("%v %v", entries, err)
		}
	})
}

func TestCopy(t *testing.T) {
	d := newFakeDaemon(t)
	stat := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	const path = " /containers/web/archive"
	d.on("HEAD"+path, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("path") {
		case "/dir":
			w.Header().Set("X-Docker-Container-Path-Stat", stat(`{"name":"dir","mode":2147484141}`))
		case "/file":
			w.Header().Set("X-Docker-Container-Path-Stat", stat(`{"name":"file","mode":420}`))
		default:
			w.WriteHeader(404)
		}
	})
	d.answer("GET /containers/web/json", 200, `{"Id":"1"}`)
	d.answer("PUT"+path, 200, "")
	d.on("GET"+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Docker-Container-Path-Stat", stat(`{"name":"file","mode":420}`))
		w.Write(archiveOf(t, tar.Header{Name: "file", Typeflag: tar.TypeReg}).Bytes())
	})
	dir := t.TempDir()
	local := filepath.Join(dir, "local")
	if err := os.WriteFile(local, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ from, to, query, name, fail string }{
		{local, "web:/dir", "noOverwriteDirNonDir=true&path=%2Fdir", "local", ""},
		{local, "web:/file", "noOverwriteDirNonDir=true&path=%2F", "file", ""},
		{local, "web:/new", "noOverwriteDirNonDir=true&path=%2F", "new", ""},
		{dir, "web:/new", "noOverwriteDirNonDir=true&path=%2F", "new/", ""},
		{dir + "/.", "web:/dir", "noOverwriteDirNonDir=true&path=%2Fdir", "./", ""},
		{dir, "web:/file", "", "", "cannot copy a directory over the file"},
		{local, "web:/new/", "", "", "there is no directory"},
		{"a:b", "c:d", "", "", "copying between containers is not supported"},
		{local, dir, "", "", "one of the two must be in a container"},
		{"web:/file", filepath.Join(dir, "none", "x"), "", "", "there is no directory"},
	} {
		d.reset()
		r := d.kist("cp", tc.from, tc.to)
		if tc.fail != "" {
			if r.code == 0 || !strings.Contains(r.err, tc.fail) {
				t.Errorf("%s %s: %+v", tc.from, tc.to, r)
			}
			continue
		}
		puts := d.seen("PUT" + path)
		if r.code != 0 || len(puts) != 1 || puts[0].query != tc.query {
			t.Errorf("%s %s: %+v %+v", tc.from, tc.to, r, puts)
			continue
		}
		if h, err := tar.NewReader(bytes.NewReader(puts[0].body)).Next(); err != nil || h.Name != tc.name {
			t.Errorf("%s %s: %v %v", tc.from, tc.to, h, err)
		}
	}
	if r := d.kist("cp", "web:/file", dir); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "file" {
		t.Errorf("%q %v", b, err)
	}
	if r := d.kist("cp", "web:/file", "-"); r.code != 0 || len(r.out) < 1024 {
		t.Errorf("%d bytes, %+v", len(r.out), r.err)
	}
}
