package test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// get asks for JSON with filters in both of the forms that clients send.
func (c *apiClient) get(path string, filters map[string][]string, old bool) string {
	c.t.Helper()
	var raw []byte
	if old {
		raw, _ = json.Marshal(filters)
	} else {
		sets := map[string]map[string]bool{}
		for k, list := range filters {
			sets[k] = map[string]bool{}
			for _, v := range list {
				sets[k][v] = true
			}
		}
		raw, _ = json.Marshal(sets)
	}
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	a := c.do("GET", path+sep+"filters="+url.QueryEscape(string(raw)), "")
	if a.status != 200 {
		c.t.Errorf("%s %s: %d %s", path, raw, a.status, a.body)
	}
	return a.body
}

// names picks a field of each entry of a list, sorted.
func names(t *testing.T, raw, field string) string {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(raw), &list); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	found := []string{}
	for _, one := range list {
		switch v := one[field].(type) {
		case string:
			found = append(found, v)
		case []any:
			for _, n := range v {
				found = append(found, strings.TrimPrefix(fmt.Sprint(n), "/"))
			}
		}
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// made posts JSON and returns the id in the answer.
func (c *apiClient) made(path, body string) string {
	c.t.Helper()
	a := c.do("POST", path, body)
	if a.status != 201 {
		c.t.Fatalf("%s %s: %d %s", path, body, a.status, a.body)
	}
	r := reply{body: []byte(a.body)}
	return r.field("Id")
}

// TestListFilters tries every filter of the lists.
func TestListFilters(t *testing.T) {
	c := newAPI(t)
	c.made("/networks/create", `{"Name":"net","Labels":{"n":"1"}}`)
	c.made("/volumes/create", `{"Name":"vol","Labels":{"v":"1"}}`)
	a := c.made("/containers/create?name=aa", `{"Image":"`+busybox+`","Cmd":["true"],"Labels":{"l":"1","m":"x"},"ExposedPorts":{"80/tcp":{},"53/udp":{}},"HostConfig":{"NetworkMode":"net","Binds":["vol:/v"],"Annotations":{"note":"1"},"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8081"}]}}}`)
	b := c.made("/containers/create?name=bb", `{"Image":"`+busybox+`","Cmd":["sh","-c","exit 3"],"Labels":{"l":"2"}}`)
	c.made("/containers/create?name=healthy", `{"Image":"`+busybox+`","Cmd":["sleep","100"],"Healthcheck":{"Test":["CMD","true"],"Interval":50000000}}`)
	c.do("POST", "/containers/bb/start", "")
	c.do("POST", "/containers/healthy/start", "")
	c.do("POST", "/containers/bb/wait", "")
	c.made("/containers/create?name=port", `{"Image":"`+busybox+`","Cmd":["sleep","100"],"HostConfig":{"PortBindings":{"90/tcp":[{"HostPort":"8090"}]}},"ExposedPorts":{"90/tcp":{}}}`)
	c.do("POST", "/containers/port/start", "")
	c.do("POST", "/images/"+busybox+"/tag?repo=kist.test/second&tag=7", "")
	commit := c.made("/commit?container=aa&repo=kist.test/derived&tag=1&changes=LABEL+il=1", "{}")
	c.made("/commit?container=aa", "{}") // dangling
	for range 100 {
		if strings.Contains(c.get("/containers/json", map[string][]string{"name": {"healthy"}}, false), `"healthy)`) || strings.Contains(c.do("GET", "/containers/healthy/json", "").body, `"Status":"healthy"`) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	type m = map[string][]string
	for _, tc := range []struct {
		path, field string
		filters     m
		want        string
	}{
		{"/containers/json", "Names", m{}, "healthy port up"},
		{"/containers/json?all=1", "Names", m{}, "aa bb healthy port up"},
		{"/containers/json?limit=2", "Names", m{}, "healthy port"},
		{"/containers/json?all=1", "Names", m{"id": {a[:12]}}, "aa"},
		{"/containers/json?all=1", "Names", m{"id": {a, b[:6]}}, "aa bb"},
		{"/containers/json?all=1", "Names", m{"name": {"^/?(aa|bb)$"}}, "aa bb"},
		{"/containers/json?all=1", "Names", m{"name": {"/bb"}}, "bb"},
		{"/containers/json?all=1", "Names", m{"label": {"l"}}, "aa bb"},
		{"/containers/json?all=1", "Names", m{"label": {"l=1"}}, "aa"},
		{"/containers/json?all=1", "Names", m{"label": {"l=1", "m=y"}}, ""},
		{"/containers/json?all=1", "Names", m{"annotation": {"note=1"}}, "aa"},
		{"/containers/json", "Names", m{"status": {"created"}}, "aa"},
		{"/containers/json", "Names", m{"status": {"exited"}}, "bb"},
		{"/containers/json", "Names", m{"status": {"running", "exited"}}, "bb healthy port up"},
		{"/containers/json", "Names", m{"exited": {"3"}}, "bb"},
		{"/containers/json?all=1", "Names", m{"exited": {"0"}}, ""},
		{"/containers/json?all=1", "Names", m{"health": {"healthy"}}, "healthy"},
		{"/containers/json?all=1", "Names", m{"health": {"none"}}, "aa bb port up"},
		{"/containers/json?all=1", "Names", m{"network": {"net"}}, "aa"},
		{"/containers/json", "Names", m{"network": {"bridge"}}, "healthy port up"},
		{"/containers/json?all=1", "Names", m{"volume": {"vol"}}, "aa"},
		{"/containers/json?all=1", "Names", m{"volume": {"/v"}}, "aa"},
		{"/containers/json?all=1", "Names", m{"expose": {"53/udp"}}, "aa"},
		{"/containers/json?all=1", "Names", m{"expose": {"80-90"}}, "aa port"},
		{"/containers/json?all=1", "Names", m{"publish": {"8090"}}, "port"},
		{"/containers/json?all=1", "Names", m{"before": {"bb"}}, "aa up"},
		{"/containers/json?all=1", "Names", m{"since": {"bb"}}, "healthy port"},
		{"/containers/json?all=1", "Names", m{"ancestor": {busybox}}, "aa bb healthy port up"},
		{"/containers/json?all=1", "Names", m{"ancestor": {"nosuch"}}, ""},
		{"/containers/json?all=1", "Names", m{"is-task": {"true"}}, ""},
		{"/containers/json?all=1", "Names", m{"is-task": {"false"}, "label": {"l"}}, "aa bb"},
		{"/images/json", "RepoTags", m{}, "kist.test/busybox:latest kist.test/derived:1 kist.test/second:7"},
		{"/images/json", "RepoTags", m{"reference": {"kist.test/s*"}}, "kist.test/second:7"},
		{"/images/json", "RepoTags", m{"reference": {"*/*:1", "kist.test/second"}}, "kist.test/derived:1 kist.test/second:7"},
		{"/images/json", "RepoTags", m{"label": {"il=1"}}, "kist.test/derived:1"},
		{"/images/json", "RepoTags", m{"dangling": {"false"}}, "kist.test/busybox:latest kist.test/derived:1 kist.test/second:7"},
		{"/images/json", "RepoTags", m{"dangling": {"true"}}, ""},
		{"/images/json", "RepoTags", m{"since": {busybox}}, "kist.test/derived:1"},
		{"/images/json", "RepoTags", m{"before": {"kist.test/derived:1"}}, "kist.test/busybox:latest kist.test/second:7"},
		{"/images/json", "RepoTags", m{"until": {"1h"}, "reference": {"kist.test/derived"}}, ""},
		{"/images/json", "RepoTags", m{"until": {"0s"}, "reference": {"kist.test/derived"}}, "kist.test/derived:1"},
		{"/v1.40/images/json?filter=kist.test/second", "RepoTags", m{}, "kist.test/second:7"},
		{"/v1.42/images/json", "RepoTags", m{"dangling": {"true"}}, "<none>:<none>"},
		{"/networks", "Name", m{"name": {"net"}}, "net"},
		{"/networks", "Name", m{"label": {"n=1"}}, "net"},
		{"/networks", "Name", m{"driver": {"host", "null"}}, "host none"},
		{"/networks", "Name", m{"type": {"custom"}}, "net"},
		{"/networks", "Name", m{"type": {"builtin"}}, "bridge host none"},
		{"/networks", "Name", m{"scope": {"swarm"}}, ""},
		{"/networks", "Name", m{"dangling": {"true"}}, "net"},
	} {
		for _, old := range []bool{false, true} {
			if got := names(t, c.get(tc.path, tc.filters, old), tc.field); got != tc.want {
				t.Errorf("%s %v: %q, want %q", tc.path, tc.filters, got, tc.want)
			}
		}
	}
	if got := c.get("/volumes", m{"label": {"v=1"}, "driver": {"local"}, "dangling": {"false"}}, false); !strings.Contains(got, `"vol"`) {
		t.Errorf("volumes: %s", got)
	}
	if got := c.get("/volumes", m{"dangling": {"true"}}, false); strings.Contains(got, `"vol"`) {
		t.Errorf("dangling volumes: %s", got)
	}
	if commit == "" {
		t.Error("commit gave no id")
	}
}

// TestPruneFilters prunes with every filter.
func TestPruneFilters(t *testing.T) {
	c := newAPI(t)
	prune := func(path, filters, want string) {
		t.Helper()
		a := c.do("POST", path+"?filters="+url.QueryEscape(filters), "")
		if a.status != 200 || (want == "") != (strings.Contains(a.body, `Deleted":[]`) || strings.Contains(a.body, `Deleted":null`)) || !strings.Contains(a.body, want) {
			t.Errorf("%s %s: %d %s, want %q", path, filters, a.status, a.body, want)
		}
	}
	a := c.made("/containers/create?name=aa", `{"Image":"`+busybox+`","Labels":{"keep":"yes"}}`)
	b := c.made("/containers/create?name=bb", `{"Image":"`+busybox+`"}`)
	prune("/containers/prune", `{"until":{"1h":true}}`, "")
	prune("/containers/prune", `{"label":{"keep=no":true}}`, "")
	prune("/containers/prune", `{"label!":{"keep":true}}`, b)
	prune("/containers/prune", `{"until":["0s"],"label":["keep=yes"]}`, a)
	c.made("/networks/create", `{"Name":"n1","Labels":{"keep":"yes"}}`)
	c.made("/networks/create", `{"Name":"n2"}`)
	prune("/networks/prune", `{"until":["10m"]}`, "")
	prune("/networks/prune", `{"label!":["keep"]}`, `"n2"`)
	prune("/networks/prune", "", `"n1"`)
	c.made("/volumes/create", `{"Name":"v1","Labels":{"keep":"yes"}}`)
	c.made("/volumes/create", `{"Name":"v2"}`)
	anonymous := c.made("/containers/create?name=cc", `{"Image":"`+busybox+`","Volumes":{"/x":{}}}`)
	c.do("DELETE", "/containers/"+anonymous, "")
	prune("/volumes/prune", "", `"VolumesDeleted":["`) // The anonymous one only.
	prune("/volumes/prune", "", "")
	prune("/volumes/prune", `{"all":["true"],"label!":["keep=yes"]}`, `["v2"]`)
	prune("/v1.41/volumes/prune", "", `["v1"]`)
	c.made("/commit?container=up&repo=kist.test/one", "{}")
	c.made("/commit?container=up", "{}")
	prune("/images/prune", `{"until":["1h"]}`, "")
	prune("/images/prune", `{"dangling":["true"]}`, "sha256:")
	prune("/images/prune", "", "")
	prune("/images/prune", `{"dangling":["0"]}`, `"Untagged":"kist.test/one:latest"`)
	if a := c.do("GET", "/images/"+busybox+"/json", ""); a.status != 200 {
		t.Errorf("the image in use is gone: %d", a.status)
	}
	for _, bad := range []string{
		"/containers/prune?filters={%22nosuch%22:[%22x%22]}", "/containers/prune?filters={%22until%22:[%22soon%22]}", "/volumes/prune?filters={%22until%22:[%221h%22]}",
		"/images/prune?filters={%22dangling%22:[%22maybe%22]}", "/networks/prune?filters=x", "/build/prune?filters={%22nosuch%22:[%22x%22]}",
		"/containers/prune?filters={%22until%22:[%221h%22,%222h%22]}",
	} {
		if a := c.do("POST", bad, ""); a.status != 400 {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
}

// TestWaitConditions waits for each condition, before and after it holds.
func TestWaitConditions(t *testing.T) {
	c := newAPI(t)
	wait := func(id, condition string) <-chan answer {
		got := make(chan answer, 1)
		asked := make(chan struct{})
		go func() {
			close(asked)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://kist/containers/"+id+"/wait?condition="+condition, nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := c.http.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			raw, _ := io.ReadAll(resp.Body)
			got <- answer{status: resp.StatusCode, body: strings.TrimSpace(string(raw))}
		}()
		<-asked
		time.Sleep(30 * time.Millisecond) // The request is under way.
		return got
	}
	expect := func(what string, got <-chan answer, body string) {
		t.Helper()
		select {
		case a := <-got:
			if a.status != 200 || a.body != body {
				t.Errorf("%s: %d %s, want %s", what, a.status, a.body, body)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: no answer", what)
		}
	}
	pending := func(what string, got <-chan answer) {
		t.Helper()
		select {
		case a := <-got:
			t.Errorf("%s: answered at once: %d %s", what, a.status, a.body)
		case <-time.After(50 * time.Millisecond):
		}
	}
	id := c.made("/containers/create", `{"Image":"`+busybox+`","Cmd":["sh","-c","read x; exit 4"],"OpenStdin":true}`)
	expect("not running, of one that never ran", wait(id, "not-running"), `{"StatusCode":0}`)
	next, removed := wait(id, "next-exit"), wait(id, "removed")
	pending("next exit", next)
	c.do("POST", "/containers/"+id+"/start", "")
	running := wait(id, "not-running")
	pending("not running", running)
	pending("next exit", next)
	c.do("POST", "/containers/"+id+"/kill?signal=KILL", "")
	expect("not running", running, `{"StatusCode":137}`)
	expect("next exit", next, `{"StatusCode":137}`)
	expect("not running, of one that ended", wait(id, ""), `{"StatusCode":137}`)
	pending("removed", removed)
	c.do("DELETE", "/containers/"+id, "")
	expect("removed", removed, `{"StatusCode":137}`)
}

// whole reads an answer to its end.
func (c *apiClient) whole(path string) {
	c.t.Helper()
	resp, err := c.http.Get("http://kist" + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 || resp.StatusCode != 200 {
		c.t.Errorf("%s: %d, %d bytes, %v", path, resp.StatusCode, n, err)
	}
}

// TestEventAttributes looks at the events of each object's life.
func TestEventAttributes(t *testing.T) {
	c := newAPI(t)
	m := &machine{t: t, host: c.host}
	m.serve(at5000, newStore())
	begin := time.Now().Unix()
	c.made("/networks/create", `{"Name":"net"}`)
	c.made("/volumes/create", `{"Name":"vol"}`)
	id := c.made("/containers/create?name=web", `{"Image":"`+busybox+`","Cmd":["sh","-c","trap 'exit 5' TERM; while :; do sleep 0.05; done"],"Tty":true,"Labels":{"l":"v"},"HostConfig":{"Binds":["vol:/v"],"NetworkMode":"net"}}`)
	for _, step := range []string{
		"POST /containers/web/start", "POST /containers/web/pause", "POST /containers/web/unpause", "POST /containers/web/resize?h=5&w=6",
		"GET /containers/web/top", "GET /containers/web/archive?path=/etc/hostname", "POST /containers/web/rename?name=web2",
		"POST /containers/web2/update {\"Memory\":67108864,\"MemorySwap\":-1}", "POST /containers/web2/restart?t=5", "POST /networks/bridge/connect {\"Container\":\"web2\"}",
		"POST /networks/bridge/disconnect {\"Container\":\"web2\"}", "POST /containers/web2/kill?signal=USR2", "POST /containers/web2/stop?t=5",
		"GET /containers/web2/export", "POST /commit?container=web2&repo=kist.test/new&comment=why {}", "DELETE /containers/web2?v=1",
		"POST /images/kist.test/new/tag?repo=127.0.0.1:5000/new&tag=1", "POST /images/127.0.0.1:5000/new/push?tag=1", "DELETE /images/kist.test/new",
		"DELETE /images/127.0.0.1:5000/new:1", "POST /images/create?fromImage=127.0.0.1:5000/new&tag=1", "GET /images/127.0.0.1:5000/new:1/get",
		"DELETE /volumes/vol", "DELETE /networks/net", "POST /containers/prune", "POST /volumes/prune", "POST /networks/prune", "POST /images/prune", "POST /build/prune",
	} {
		method, rest, _ := strings.Cut(step, " ")
		path, body, _ := strings.Cut(rest, " ")
		if strings.HasSuffix(path, "/export") || strings.HasSuffix(path, "/get") {
			c.whole(path)
		} else if a := c.do(method, path, body); a.status >= 300 {
			t.Errorf("%s: %d %s", step, a.status, a.body)
		}
		if strings.Contains(step, "/start") || strings.Contains(step, "/restart") {
			time.Sleep(100 * time.Millisecond) // The shell sets its trap.
		}
	}
	exec := c.made("/containers/up/exec", `{"Cmd":["sh","-c","exit 6"],"Tty":true}`)
	c.do("POST", "/exec/"+exec+"/start", `{"Detach":true}`)
	time.Sleep(200 * time.Millisecond)
	raw := c.do("GET", fmt.Sprintf("/events?since=%d&until=%d", begin, time.Now().Unix()+1), "").body
	type event struct {
		Type, Action string
		Actor        struct {
			ID         string
			Attributes map[string]string
		}
	}
	seen := map[string][]event{}
	for line := range strings.Lines(raw) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[e.Type+" "+e.Action] = append(seen[e.Type+" "+e.Action], e)
	}
	for key, want := range map[string]string{ // Attributes besides a container's image, name and labels; = without a value is any.
		"container create": "image=" + busybox + " name=web l=v", "container start": "l=v", "container pause": "", "container unpause": "",
		"container resize": "height=5 width=6", "container top": "", "container archive-path": "", "container rename": "oldName=/web name=web2",
		"container update": "name=web2", "container restart": "", "container kill": "signal=", "container die": "exitCode= execDuration=", "container stop": "",
		"container export": "", "container commit": "comment=why", "container destroy": "l=v",
		"container exec_create: sh -c exit 6": "execID=" + exec, "container exec_start: sh -c exit 6": "execID=" + exec, "container exec_die": "execID=" + exec + " exitCode=6",
		"network create": "name=net type=bridge", "network connect": "container=" + id + " name= type=bridge", "network disconnect": "container=" + id, "network destroy": "name=net type=bridge",
		"volume create": "driver=local", "volume mount": "container=" + id + " destination=/v driver=local read/write=true propagation=", "volume unmount": "container=" + id + " driver=local", "volume destroy": "driver=local",
		"image tag": "name=", "image push": "name=127.0.0.1:5000/new", "image untag": "name=", "image delete": "name=", "image pull": "name=127.0.0.1:5000/new", "image save": "name=",
		"container prune": "reclaimed=", "volume prune": "reclaimed=", "network prune": "reclaimed=", "image prune": "reclaimed=", "builder prune": "reclaimed=",
	} {
		if len(seen[key]) == 0 {
			t.Errorf("no event %s", key)
			continue
		}
		if !slices.ContainsFunc(seen[key], func(e event) bool {
			for word := range strings.FieldsSeq(want) {
				k, v, _ := strings.Cut(word, "=")
				if got, ok := e.Actor.Attributes[k]; !ok || v != "" && got != v {
					return false
				}
			}
			return true
		}) {
			t.Errorf("%s: %+v, want %s", key, seen[key], want)
		}
	}
	if t.Failed() {
		for key := range seen {
			t.Log(key)
		}
	}
}

// TestCopyForms copies in all forms that docker cp has of the API: files, directories, links, into what is and is not there.
func TestCopyForms(t *testing.T) {
	c := newAPI(t)
	id := c.made("/containers/create", `{"Image":"`+busybox+`","Cmd":["sleep","100"],"HostConfig":{"Tmpfs":{"/mem":""}}}`)
	put := func(dir string, headers ...*tar.Header) answer {
		b := new(bytes.Buffer)
		w := tar.NewWriter(b)
		for _, h := range headers {
			if h.Typeflag == 0 {
				h.Size = 4
			}
			h.Mode = 0o755
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				_, _ = w.Write([]byte("text"))
			}
		}
		_ = w.Close()
		return c.do("PUT", "/containers/"+id+"/archive?path="+url.QueryEscape(dir), b.String())
	}
	list := func(path string) string {
		t.Helper()
		a := c.do("GET", "/containers/"+id+"/archive?path="+url.QueryEscape(path), "")
		if a.status != 200 {
			return fmt.Sprint(a.status)
		}
		var all []string
		for r := tar.NewReader(strings.NewReader(a.body)); ; {
			h, err := r.Next()
			if err == io.EOF {
				return strings.Join(all, " ")
			}
			if err != nil {
				t.Fatal(err)
			}
			name := h.Name
			if h.Linkname != "" {
				name += "->" + h.Linkname
			}
			all = append(all, name)
		}
	}
	if a := put("/tmp", &tar.Header{Name: "d/", Typeflag: tar.TypeDir}, &tar.Header{Name: "d/f"}, &tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, &tar.Header{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/f"}); a.status != 200 {
		t.Fatal(a)
	}
	for path, want := range map[string]string{
		"/tmp/d": "d/ d/f d/h->d/f d/l->/etc", "/tmp/d/": "d/ d/f d/h->d/f d/l->/etc", "/tmp/d/.": "./ f h->f l->/etc",
		"/tmp/d/f": "f", "tmp/d/f": "f", "/tmp/d/l": "l->/etc", "/tmp/../tmp/d/f": "f", "/tmp/d/nosuch": "404",
	} {
		if got := list(path); got != want {
			t.Errorf("get %s: %q, want %q", path, got, want)
		}
	}
	for _, running := range []bool{false, true} {
		if running {
			c.do("POST", "/containers/"+id+"/start", "")
		}
		for _, tc := range []struct {
			dir    string
			header tar.Header
			status int
		}{
			{"/tmp", tar.Header{Name: "x"}, 200},
			{"/tmp/x", tar.Header{Name: "y"}, 400},    // a file
			{"/nosuch", tar.Header{Name: "y"}, 404},   // nothing
			{"/tmp/d/l", tar.Header{Name: "in"}, 200}, // a link to a directory
			{"/", tar.Header{Name: "../../../escaped"}, 400},
		} {
			h := tc.header
			a := put(tc.dir, &h)
			// An archive that reaches out may be refused, or kept inside; the kernel's own files are not to be written.
			if a.status != tc.status && (tc.status != 400 || a.status < 400 && !strings.Contains(h.Name, "..")) {
				t.Errorf("running %v: put %s into %s: %d %s, want %d", running, tc.header.Name, tc.dir, a.status, a.body, tc.status)
			}
		}
	}
	if a := put("/proc", &tar.Header{Name: "x"}); a.status < 400 {
		t.Errorf("into /proc: %d", a.status)
	}
	if got := list("/etc/in"); got != "in" {
		t.Errorf("through a link: %q", got)
	}
	if a := put("/mem", &tar.Header{Name: "seen"}); a.status != 200 || list("/mem/seen") != "seen" {
		t.Errorf("into a mount of the running container: %+v, %s", a, list("/mem/seen"))
	}
	// What is mounted to be read is not written, neither while the container runs nor before.
	dir := t.TempDir()
	for _, running := range []bool{false, true} {
		id = c.made("/containers/create", `{"Image":"`+busybox+`","Cmd":["sleep","100"],"HostConfig":{"Binds":["`+dir+`:/ro:ro"]}}`)
		if running {
			c.do("POST", "/containers/"+id+"/start", "")
		}
		for _, into := range []string{"/ro", "/ro/.", "/tmp/../ro"} {
			if a := put(into, &tar.Header{Name: "x"}); a.status < 400 {
				t.Errorf("running %v: into %s, mounted read-only: %d", running, into, a.status)
			}
		}
		put("/", &tar.Header{Name: "ro/y"})
		put("/tmp", &tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/ro"})
		put("/tmp/link", &tar.Header{Name: "z"})
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("running %v: written to what is mounted read-only: %v, %v", running, left, err)
		}
	}
}
