package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// stanza is a package in a list: NAME VERSION, and further fields.
func stanza(name, version string, fields ...string) string {
	s := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: ./pool/%s.deb\nSize: 1\nSHA256: %064d\n", name, version, name, 0)
	return s + strings.Join(append(fields, ""), "\n") + "\n"
}

// indexOf makes an index of lists.
func indexOf(t testing.TB, lists ...string) *Index {
	t.Helper()
	x := NewIndex()
	for _, l := range lists {
		w := x.Add(strings.NewReader(l))
		if _, err := io.Copy(w, iotest.OneByteReader(strings.NewReader(l))); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func TestIndex(t *testing.T) {
	x := indexOf(t,
		stanza("a", "1", "Priority: required")+stanza("b", "1", "Provides: virtual, a2 (= 2)", "Essential: yes")+strings.TrimSuffix(stanza("c", "1", "Provides: virtual"), "\n"),
		stanza("a", "2")+stanza("c", "1"))
	if got := fmt.Sprint(x.Names()); got != "[a a2 b c virtual]" {
		t.Error(got)
	}
	if p, err := x.Best("a"); err != nil || p.Version != "2" || p.List != 1 || p.Filename != "pool/a.deb" {
		t.Errorf("%+v %v", p, err)
	}
	if p, err := x.Best("c"); err != nil || p.List != 0 { // of equal versions the first list's
		t.Errorf("%+v %v", p, err)
	}
	if p, err := x.Best("virtual"); p != nil || err != nil {
		t.Error(p, err)
	}
	if all, err := x.providers("virtual"); err != nil || fmt.Sprint(all) != "[b (1) c (1)]" {
		t.Error(all, err)
	}
	if got := x.selection(func(p Priority, essential bool) bool { return p == Required || essential }); fmt.Sprint(got) != "[a b]" {
		t.Error(got)
	}
	for _, bad := range []string{stanza("../x", "1"), stanza("a b", "1"), stanza("bad", "1 2"), strings.Replace(stanza("bad", "1"), "amd64", "x;y", 1), strings.Replace(stanza("bad", "1"), "./pool", "../pool", 1), strings.Replace(stanza("bad", "1"), "Size: 1", "Size: x", 1)} {
		x := indexOf(t, bad)
		for _, name := range x.Names() {
			if _, err := x.Best(name); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
	}
}

// However a list is cut into pieces, the index is the same.
func TestIndexPieces(t *testing.T) {
	text := stanza("a", "1") + "\n\n" + stanza("b", "1", "Description: x", " y") + stanza("c", "3")
	for n := 1; n < len(text); n++ {
		x := NewIndex()
		w := x.Add(strings.NewReader(text))
		for rest := text; rest != ""; {
			k := min(n, len(rest))
			if _, err := io.WriteString(w, rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
		}
		_ = w.Close()
		for _, name := range []string{"a", "b", "c"} {
			if p, err := x.Best(name); err != nil || p == nil || p.Name != name {
				t.Fatalf("pieces of %d: %s is %v, %v", n, name, p, err)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	list := stanza("base", "1", "Essential: yes", "Pre-Depends: libc (>= 2)") +
		stanza("libc", "2", "Depends: base") + // a ring
		stanza("app", "1", "Depends: db-old (<< 1) | db, mail, perl:any") +
		stanza("db", "5") + stanza("db-old", "3") +
		stanza("exim", "1", "Provides: mail", "Priority: standard") + stanza("postfix", "1", "Provides: mail", "Conflicts: mail") +
		stanza("perl", "5") + stanza("wants-postfix", "1", "Depends: postfix") +
		stanza("wants-exim", "1", "Depends: exim") + stanza("versioned", "1", "Depends: api (>= 2)") +
		stanza("api1", "1", "Provides: api (= 1)") + stanza("api2", "1", "Provides: api (= 3)") +
		stanza("merge", "1", "Depends: usrmerge | merged") + stanza("usrmerge", "1") + stanza("merged", "1") + stanza("needs-nothing-known", "1", "Depends: nowhere (>= 1)") +
		stanza("apt", "1", "Priority: required", "Breaks: old (<< 2)") + stanza("old", "1") + stanza("new", "1", "Depends: old")
	x := indexOf(t, list)
	for _, c := range []struct{ names, exclude, want string }{
		{"base", "", "base libc"},
		{"app", "", "app db exim perl"},
		{"app wants-postfix", "exim", "app db perl postfix wants-postfix"},
		{"app postfix", "", "app db perl postfix"},
		{"versioned", "", "api2 versioned"},
		{"merge", "", "merge merged"},
		{"merge", "merged", "merge usrmerge"},
		{"app=1", "", "app db exim perl"},
		{"needs-nothing-known", "", "no package nowhere (>= 1), which needs-nothing-known (1) depends on"},
		{"app", "db", "package db-old (<< 1) | db is excluded, which app (1) depends on"},
		{"app=2", "", "no package app=2"},
		{"nosuch", "", "no package nosuch"},
		{"wants-postfix wants-exim", "", "postfix (1) cannot be installed beside exim (1)"},
		{"apt old", "", "apt (1) cannot be installed beside old (1)"},
	} {
		got, err := x.Resolve(Wish{Names: strings.Fields(c.names), Exclude: strings.Fields(c.exclude), Avoid: []string{"usrmerge"}})
		var names []string
		for _, p := range got {
			names = append(names, p.Name)
		}
		text := strings.Join(names, " ")
		if err != nil {
			text = err.Error()
			var lost *MissingError
			var rival *ConflictError
			if !errors.As(err, &lost) && !errors.As(err, &rival) {
				t.Errorf("%v is of another kind", err)
			}
		}
		if text != c.want && !strings.Contains(c.want, "cannot") || strings.Contains(c.want, "cannot") && err == nil {
			t.Errorf("%s without %s: %s, want %s", c.names, c.exclude, text, c.want)
		}
	}
}

func TestRoots(t *testing.T) {
	x := indexOf(t, stanza("a", "1", "Essential: yes", "Priority: required")+stanza("b", "1", "Priority: required")+stanza("c", "1", "Priority: important")+
		stanza("d", "1", "Priority: standard")+stanza("e", "1", "Priority: optional")+stanza("apt", "1", "Priority: important"))
	for v, want := range map[Variant]string{
		Essential: "[a]", Minbase: "[a b apt]", Buildd: "[a b apt build-essential]", Full: "[a apt b c]", Usual: "[a apt b c d]",
	} {
		if got, err := x.Roots(v); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v %v, want %s", v, got, err, want)
		}
	}
	if _, err := x.Roots("other"); err == nil {
		t.Error("an unknown variant is taken")
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(stanza("a", "1", "Provides: b")+stanza("b", "2", "Depends: a | c")), 7)
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		x := NewIndex()
		w := x.Add(bytes.NewReader(text))
		n = max(n%1000, 1)
		for rest := text; len(rest) > 0; {
			k := min(n, len(rest))
			if _, err := w.Write(rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
		_ = w.Close()
		_, _ = x.Resolve(Wish{Names: x.Names()})
	})
}

func BenchmarkIndex(b *testing.B) {
	var text strings.Builder
	for i := range 5000 {
		text.WriteString(stanza(fmt.Sprintf("package-%d", i), "1.2-3", "Depends: libc6 (>= 2.36), libgcc-s1 (>= 3.0), libstdc++6 (>= 11)",
			"Description: a package", "Homepage: https://example.org/", "Section: libs", "Priority: optional", "Tag: role::shared-lib"))
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		w := NewIndex().Add(strings.NewReader(text.String()))
		if _, err := io.Copy(w, strings.NewReader(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
