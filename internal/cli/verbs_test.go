package cli

import (
	"strings"
	"testing"
)

// TestVerbs makes the request of each simple command and looks at what is printed.
func TestVerbs(t *testing.T) {
	d := newFakeDaemon(t)
	d.answer("GET /containers/json", 200, `[{"Names":["/web"]}]`)
	for _, tc := range []struct{ args, route, answer, query, out string }{
		{"stop -t 3 a b", "POST /containers/a/stop", "", "t=3", "a\nb\n"},
		{"restart -s HUP a", "POST /containers/a/restart", "", "signal=HUP", "a\n"},
		{"kill -s INT a", "POST /containers/a/kill", "", "signal=INT", "a\n"},
		{"pause a", "POST /containers/a/pause", "", "", "a\n"},
		{"container unpause a", "POST /containers/a/unpause", "", "", "a\n"},
		{"start a", "POST /containers/a/start", "", "", "a\n"},
		{"rm -fv a", "DELETE /containers/a", "", "force=1&v=1", "a\n"},
		{"rename a new", "POST /containers/a/rename", "", "name=new", ""},
		{"wait a", "POST /containers/a/wait", `{"StatusCode":42}`, "", "42\n"},
		{"tag a r.test:5000/b", "POST /images/a/tag", "", "repo=r.test%3A5000%2Fb&tag=", ""},
		{"rmi -f a", "DELETE /images/a", `[{"Untagged":"a:latest"},{"Deleted":"sha256:1"}]`, "force=1", "Untagged: a:latest\nDeleted: sha256:1\n"},
		{"update -m 1g a", "POST /containers/a/update", `{}`, "", "a\n"},
		{"commit -p=false a x:1", "POST /commit", `{"Id":"sha256:2"}`, "author=&comment=&container=a&pause=0&repo=x&tag=1", "sha256:2\n"},
		{"volume create v", "POST /volumes/create", `{"Name":"v"}`, "", "v\n"},
		{"volume rm v", "DELETE /volumes/v", "", "", "v\n"},
		{"network create n", "POST /networks/create", `{"Id":"nid"}`, "", "nid\n"},
		{"network connect n a", "POST /networks/n/connect", "", "", ""},
		{"network rm n", "DELETE /networks/n", "", "", "n\n"},
		{"container prune -f", "POST /containers/prune", `{"ContainersDeleted":["c1"],"SpaceReclaimed":1000}`, "", "Deleted Containers:\nc1\n\nTotal reclaimed space: 1kB\n"},
		{"image prune -af", "POST /images/prune", `{}`, "filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D", "Total reclaimed space: 0B\n"},
		{"exec -d a true", "POST /containers/a/exec", `{"Id":"e"}`, "", ""},
		{"export a", "GET /containers/a/export", "tar", "", "tar"},
		{"save a b", "GET /images/get", "tar", "names=a&names=b", "tar"},
	} {
		d.reset()
		for _, other := range []string{"POST /containers/b/stop", "POST /exec/e/start"} {
			d.answer(other, 200, "")
		}
		status := 204
		if tc.answer != "" {
			status = 200
		}
		d.answer(tc.route, status, tc.answer)
		r := d.kist(strings.Fields(tc.args)...)
		seen := d.seen(tc.route)
		if r.code != 0 || r.out != tc.out || r.err != "" || len(seen) != 1 || seen[0].query != tc.query {
			t.Errorf("%s: %+v %+v", tc.args, r, seen)
		}
		if strings.HasPrefix(tc.args, "rm") || strings.HasPrefix(tc.args, "rename") {
			d.answer(tc.route, 404, `{"message":"No such container: a"}`)
		}
	}
	d.answer("POST /containers/wbe/stop", 404, `{"message":"No such container: wbe"}`)
	d.answer("POST /containers/ok/stop", 204, "")
	if r := d.kist("stop", "ok", "wbe"); r.code != 1 || r.out != "ok\n" || r.err != "error: No such container: wbe [not-found]\ntry:   did you mean web?\n" {
		t.Errorf("%+v", r)
	}
	// A prune that nobody confirms removes nothing.
	d.reset()
	if r := d.kistWith(strings.NewReader("n\n"), nil, "system", "prune"); r.code != 0 || len(d.requests) != 0 {
		t.Errorf("%+v %d", r, len(d.requests))
	}
}
