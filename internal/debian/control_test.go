package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/testbed"
)

const control = `Package: a
Version: 1
Description: first
 second
 .
 third
# a comment
Depends: b (>= 1), c | d:any (<< 2)

Package: e
`

func TestParagraphs(t *testing.T) {
	all, err := parseParagraphs([]byte(control))
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if got := all[0].get("DESCRIPTION"); got != "first\n second\n .\n third" {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	if err := all[0].Write(&out); err != nil || out.String() != strings.Split(strings.Replace(control, "# a comment\n", "", 1), "Package: e")[0] {
		t.Errorf("%q, %v", out.String(), err)
	}
	for _, bad := range []string{" goes on", "no field", ": no name", "a b: space"} {
		if _, err := parseParagraphs([]byte(bad)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ParseParagraph([]byte(control)); err == nil {
		t.Error("two paragraphs for one")
	}
}

func TestRelations(t *testing.T) {
	got := fmt.Sprint(parseRelations(" b (>= 1) , c | d:any (<<2) [amd64] <!nocheck>,, f(1)"))
	if want := "[[b (>= 1)] [c d:any (<< 2)] [f (= 1)]]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzParagraphs(f *testing.F) {
	f.Add([]byte(control))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseParagraphs(text)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, p := range all {
			if err := p.Write(&out); err != nil {
				t.Fatal(err)
			}
			NewPackage(p)
		}
		again, err := parseParagraphs(out.Bytes())
		if err != nil || !reflect.DeepEqual(all, again) {
			t.Errorf("%q is not what was written: %q, %v", again, all, err)
		}
	})
}

const release = `Origin: Debian
Suite: stable
Codename: bookworm
Date: Sat, 11 Jul 2026 10:16:37 UTC
Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC
Acquire-By-Hash: yes
Architectures: all amd64
Components: main contrib
MD5Sum:
 d41d8cd98f00b204e9800998ecf8427e 0 main/x
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 20 main/binary-amd64/Packages.xz
`

func TestRelease(t *testing.T) {
	r, err := ParseRelease([]byte(release))
	if err != nil {
		t.Fatal(err)
	}
	if r.Codename != "bookworm" || !r.ByHash || r.Date.Unix() != 1783764997 || r.ValidUntil.Sub(r.Date).Hours() != 168 || len(r.Files) != 2 {
		t.Errorf("%+v", r)
	}
	if got := r.Lists("main", "amd64"); !reflect.DeepEqual(got, []string{"main/binary-amd64/Packages.xz", "main/binary-amd64/Packages"}) {
		t.Error(got)
	}
	for name, bad := range map[string]string{
		"no sums": "Date: Sat, 11 Jul 2026 10:16:37 UTC\n", "no date": strings.Replace(release, "Sat, 11 Jul", "some day", 1),
		"bad date to the end": strings.Replace(release, "Valid-Until: Sat", "Valid-Until: x", 1), "path out": strings.Replace(release, "main/binary-amd64/Packages.xz", "../../etc/passwd", 1),
		"negative size": strings.Replace(release, " 20 ", " -20 ", 1), "short sum": strings.Replace(release, "SHA256:\n e3b0", "SHA256:\n b0", 1), "words": release + " a b\n", "empty": "",
	} {
		if _, err := ParseRelease([]byte(bad)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(release))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err != nil {
			return
		}
		for name, file := range r.Files {
			if file.Size < 0 || !CleanPath(name) {
				t.Errorf("%q %+v", name, file)
			}
		}
	})
}

func TestDeb(t *testing.T) {
	raw := testbed.Ar("debian-binary", "2.0\n", "_gpgorigin", "x", "control.tar.xz", "control", "data.tar.zst/", "the data")
	d, err := OpenDeb(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := io.ReadAll(d.Control)
	data, _ := io.ReadAll(d.Data)
	if string(c) != "control" || string(data) != "the data" {
		t.Errorf("%q %q", c, data)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "no archive": []byte("something else"), "no members": testbed.Ar(), "another format": testbed.Ar("debian-binary", "3.0\n", "control.tar", "", "data.tar", ""),
		"no control": testbed.Ar("debian-binary", "2.0\n", "data.tar", "x"), "order": testbed.Ar("debian-binary", "2.0\n", "data.tar", "x", "control.tar", "y"),
		"no data": testbed.Ar("debian-binary", "2.0\n", "control.tar.gz", "x"), "another member": testbed.Ar("debian-binary", "2.0\n", "control.tar.gz", "x", "data.tarred", "y"),
		"cut off": raw[:len(raw)-3], "header cut off": raw[:100],
		"size": bytes.Replace(raw, []byte("8         `"), []byte("9999999999`"), 1), "negative": bytes.Replace(raw, []byte("8         `"), []byte("-8        `"), 1),
	} {
		if _, err := OpenDeb(bytes.NewReader(bad), int64(len(bad))); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDeb(f *testing.F) {
	f.Add(testbed.Ar("debian-binary", "2.0\n", "control.tar", "c", "data.tar", "d"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := OpenDeb(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		for _, part := range []*io.SectionReader{d.Control, d.Data} {
			if n, err := io.Copy(io.Discard, part); err != nil || n > int64(len(raw)) {
				t.Error(n, err)
			}
		}
	})
}
