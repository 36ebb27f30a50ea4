package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

const passwd = `# comment
root:x:0:0:root:/root:/bin/sh
broken
app:x:1000:1001:App:/home/app:/bin/sh
home:x:7:7::
1234:x:50:51::/numeric:
evil:x:-5:x:::
big:x:4294967297:0:::
`

const groups = `root:x:0:root
app:x:1001:
wheel:x:10:root,app
video:x:44:app,home
video2:x:44:app
short:x
4567:x:60:
`

func TestResolveUser(t *testing.T) {
	for _, c := range []struct {
		user  string
		add   []string
		want  User
		error string
	}{
		{user: "", want: User{Home: "/root", Groups: []uint32{0, 10}}},
		{user: "root", want: User{Home: "/root", Groups: []uint32{0, 10}}},
		{user: "app", want: User{UID: 1000, GID: 1001, Home: "/home/app", Groups: []uint32{10, 44}}},
		{user: "1000", want: User{UID: 1000, GID: 1001, Home: "/home/app", Groups: []uint32{10, 44}}},
		{user: "app:video", want: User{UID: 1000, GID: 44, Home: "/home/app"}},
		{user: "app:99", want: User{UID: 1000, GID: 99, Home: "/home/app"}},
		{user: "1000:1000", want: User{UID: 1000, GID: 1000, Home: "/home/app"}},
		{user: "2000", want: User{UID: 2000, Home: "/"}},
		{user: "2000:3000", want: User{UID: 2000, GID: 3000, Home: "/"}},
		{user: ":video", want: User{GID: 44, Home: "/root"}},
		{user: "home", want: User{UID: 7, GID: 7, Home: "/", Groups: []uint32{44}}},
		{user: "1234", want: User{UID: 50, GID: 51, Home: "/numeric"}},
		{user: "app", add: []string{"wheel", "77", "root"}, want: User{UID: 1000, GID: 1001, Home: "/home/app", Groups: []uint32{10, 44, 77, 0}}},
		{user: "app:app", add: []string{"4567"}, want: User{UID: 1000, GID: 1001, Home: "/home/app", Groups: []uint32{60}}},
		{user: "nobody", error: "unable to find user nobody: no matching entries in passwd file"},
		{user: "evil", error: "unable to find user evil"},
		{user: "app:nobody", error: "unable to find group nobody: no matching entries in group file"},
		{user: "app", add: []string{"nobody"}, error: "unable to find group nobody"},
		{user: "-1", error: "uids and gids must be in range 0-2147483647"},
		{user: "4294967296", error: "uids and gids must be in range"},
		{user: "0:99999999999999999999", error: "uids and gids must be in range"},
	} {
		got, err := ResolveUser(c.user, c.add, []byte(passwd), []byte(groups))
		if c.error != "" {
			if err == nil || !strings.Contains(err.Error(), c.error) || !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: got %v, want %q", c.user, err, c.error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.user, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q: %s", c.user, d)
		}
	}
}

func TestResolveUserWithoutFiles(t *testing.T) {
	for _, user := range []string{"", "0", "0:0"} {
		if u, err := ResolveUser(user, nil, nil, nil); err != nil || u.UID != 0 || u.Home != "/" {
			t.Errorf("%q: %+v, %v", user, u, err)
		}
	}
	if _, err := ResolveUser("root", nil, nil, nil); err == nil {
		t.Error("a name was resolved without a passwd file")
	}
}

func TestPrimaryGroupIsAnAdditionalOne(t *testing.T) {
	got := User{GID: 5, Groups: []uint32{7, 5, 7}}.oci(nil)
	if !slices.Equal(got.AdditionalGids, []uint32{5, 7}) {
		t.Errorf("groups %v", got.AdditionalGids)
	}
}

func FuzzResolveUser(f *testing.F) {
	f.Add("app:video", "wheel", passwd, groups)
	f.Add("1000", "", "a:b:1000:1", ":::")
	f.Add(":", ":", "::::::\n\r\n", "x:x:0:,,,,")
	f.Add("-0", "+1", "x:x:-0:+1", "")
	f.Fuzz(func(t *testing.T, user, add, passwd, group string) {
		var list []string
		if add != "" {
			list = []string{add}
		}
		u, err := ResolveUser(user, list, []byte(passwd), []byte(group))
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not the request's fault", err)
			}
			return
		}
		if u.UID > maxID || u.GID > maxID || u.Home == "" {
			t.Errorf("%q resolved to %+v", user, u)
		}
		name, _, _ := strings.Cut(user, ":")
		if uid, isID, _ := parseID(name); isID && u.UID != uid && !strings.Contains(passwd, name) {
			t.Errorf("%q became %d", user, u.UID)
		}
	})
}
