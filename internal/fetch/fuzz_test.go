package fetch

import (
	"path/filepath"
	"strings"
	"testing"
)

func FuzzPick(f *testing.F) {
	id := strings.Repeat("a", 40)
	f.Add("ref: refs/heads/main\tHEAD\n"+id+"\tHEAD\n", "")
	f.Add(id+"\trefs/tags/v1\n"+id+"\trefs/tags/v1^{}\n", "v1")
	f.Add("\t\n\t", "refs/")
	f.Fuzz(func(t *testing.T, answer, ref string) {
		if c := pick(answer, ref); c != nil && !wholeID.MatchString(c.ID) {
			t.Errorf("%q is no commit", c.ID)
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add("", `attachment; filename="../../x"`, "/a/b")
	f.Add(`..\..\x`, "", "/")
	f.Add("", "inline; filename*=UTF-8''%2e%2e%2f", "/%2e%2e")
	f.Fuzz(func(t *testing.T, wish, disposition, final string) {
		name := fileName(wish, &kept{Disposition: disposition, Final: final, URL: "http://h" + final})
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || filepath.Base(name) != name {
			t.Errorf("%q is no name of a file", name)
		}
	})
}
