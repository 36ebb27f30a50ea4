package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// apiClient speaks HTTP to a daemon on a host of its own.
type apiClient struct {
	t    *testing.T
	host *testbed.Host
	http *http.Client
}

// newAPI starts a daemon with the busybox image, and a container called "up" that runs.
func newAPI(t *testing.T, flags ...string) *apiClient {
	t.Helper()
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	h := testbed.NewHost(t)
	h.StartDaemon(flags...)
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	h.Run("kist", "run", "-d", "--name", "up", "kist.test/busybox", "sh", "-c", "trap exit TERM; echo ready; while :; do sleep 0.1; done")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", h.Socket())
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &apiClient{t: t, host: h, http: &http.Client{Transport: transport}}
}

// answer is what came back: the status, and the beginning of the body.
type answer struct {
	status int
	kind   string // Content-Type
	body   string
}

// do sends a request. What streams without an end is read for a moment only.
func (c *apiClient) do(method, path, body string) answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://kist"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 { // What streams is not waited for.
		stop := time.AfterFunc(300*time.Millisecond, cancel)
		defer stop.Stop()
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil && !errors.Is(err, context.Canceled) {
		c.t.Errorf("%s %s: reading the answer: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)}
}

// wellFormed checks an error's body: JSON with a message and nothing that only a programmer would understand.
func (a answer) wellFormed() string {
	if a.kind != "application/json" {
		return "error of type " + a.kind
	}
	var e struct{ Message string }
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Message == "" {
		return "error without a message"
	}
	for _, bad := range []string{"panic", "runtime error", "goroutine", "nil pointer"} {
		if strings.Contains(e.Message, bad) {
			return "error that tells of " + bad
		}
	}
	return ""
}

var (
	swaggerPath   = regexp.MustCompile(`^  (/\S*):$`)
	swaggerMethod = regexp.MustCompile(`^    (get|post|put|delete|head):$`)
	placeholder   = regexp.MustCompile(`\{[a-z]+\}`)
)

// operations are all that Docker's description of its API has, as "METHOD /path".
func operations(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Skipf("skip: the module with Docker's API description is not there: %v", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Skipf("skip: no description of Docker's API: %v", err)
	}
	defer f.Close()
	var list []string
	var path string
	for s := bufio.NewScanner(f); s.Scan(); {
		if m := swaggerPath.FindStringSubmatch(s.Text()); m != nil {
			path = m[1]
		} else if m := swaggerMethod.FindStringSubmatch(s.Text()); m != nil && path != "" {
			list = append(list, strings.ToUpper(m[1])+" "+path)
		}
	}
	if len(list) < 100 {
		t.Fatalf("only %d operations found in Docker's description", len(list))
	}
	return list
}

// TestAPIOperations asks for everything in Docker's description of its API, for things that are not there and with nothing
// in the request: every operation is known, none fails inside, and errors have Docker's form, in old versions and new.
func TestAPIOperations(t *testing.T) {
	c := newAPI(t)
	for _, op := range operations(t) {
		method, path, _ := strings.Cut(op, " ")
		path = strings.Replace(path, "/distribution/{name}", "/distribution/127.0.0.1:1/missing", 1) // Asks a registry.
		for _, version := range []string{"/v1.24", "/v1.30", "/v1.41", "/v1.52", "/v1.56", ""} {
			a := c.do(method, version+placeholder.ReplaceAllString(path, "missing"), "")
			switch {
			case strings.Contains(a.body, "page not found"), a.status == http.StatusMethodNotAllowed:
				t.Errorf("%s %s: unknown: %d %s", version, op, a.status, a.body)
			case a.status == http.StatusInternalServerError:
				t.Errorf("%s %s: failed inside: %s", version, op, a.body)
			case a.status >= 400 && method != http.MethodHead:
				if bad := a.wellFormed(); bad != "" {
					t.Errorf("%s %s: %s: %d %q", version, op, bad, a.status, a.body)
				}
			}
		}
	}
}

// TestAPIBadRequests checks Docker's statuses, and words where they are Docker's.
func TestAPIBadRequests(t *testing.T) {
	c := newAPI(t)
	const create = "POST /containers/create"
	for _, r := range []struct {
		op, body string
		status   int
		words    string
	}{
		{"GET /v1.23/info", "", 400, "client version 1.23 is too old"},
		{"GET /v1.999/info", "", 400, "client version 1.999 is too new"},
		{"GET /v2.0/info", "", 400, "too new"},
		{"GET /nosuch", "", 404, "page not found"},
		{"GET /v1.41/nosuch/x", "", 404, "page not found"},
		{create, "", 400, "EOF"},
		{create, "null", 400, "config cannot be empty"},
		{create, "[]", 400, ""},
		{create, "{", 400, ""},
		{create, `{"Image":7}`, 400, ""},
		{create, `{"Image":"` + strings.Repeat("x", 9<<20) + `"}`, 400, "too large"},
		{create, `{"Image":"kist.test/busybox","Cmd":7}`, 400, ""},
		{create, `{"Image":"kist.test/busybox","HostConfig":[]}`, 400, ""},
		{create, `{"Image":"kist.test/busybox","HostConfig":{"Memory":"a lot"}}`, 400, ""},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"HostConfig":{"Memory":1}}`, 400, "Minimum memory limit allowed is 6MB"},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"HostConfig":{"NanoCpus":-1}}`, 400, ""},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"HostConfig":{"ShmSize":-1}}`, 400, ""},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"HostConfig":{"RestartPolicy":{"Name":"often"}}}`, 400, "restart policy"},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"99999"}]}}}`, 400, "port"},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"HostConfig":{"Binds":["a:b:c:d"]}}`, 400, "invalid volume specification"},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"StopSignal":"NOSUCH"}`, 400, "signal"},
		{create, `{"Image":"nosuch","Cmd":["true"]}`, 404, "No such image: nosuch"},
		{create, `{"Image":"BAD NAME","Cmd":["true"]}`, 400, "invalid reference format"},
		{create + "?name=x", `{"Image":"kist.test/busybox","Cmd":["true"]}`, 400, "Invalid container name (x)"},
		{create + "?name=up", `{"Image":"kist.test/busybox","Cmd":["true"]}`, 409, "is already in use by container"},
		{create + "?name=up&platform=a/b/c/d", `{"Image":"kist.test/busybox","Cmd":["true"]}`, 400, "platform"},
		{create, `{"Image":"kist.test/busybox","Cmd":["true"],"NoSuchField":{"a":[1]}}`, 201, ""}, // Docker takes no notice.
		{"GET /containers/json?limit=many", "", 400, ""},
		{"GET /containers/json?filters=nonsense", "", 400, ""},
		{`GET /containers/json?filters={"nosuch":["a"]}`, "", 400, "invalid filter"},
		{`GET /containers/json?filters={"status":["idle"]}`, "", 400, "invalid filter"},
		{`GET /images/json?filters={"nosuch":["a"]}`, "", 400, "invalid filter"},
		{`GET /volumes?filters={"nosuch":["a"]}`, "", 400, "invalid filter"},
		{`GET /networks?filters={"nosuch":["a"]}`, "", 400, "invalid filter"},
		{"GET /containers/nosuch/json", "", 404, "No such container: nosuch"},
		{"GET /images/nosuch/json", "", 404, "No such image: nosuch"},
		{"GET /volumes/nosuch", "", 404, "no such volume"},
		{"GET /networks/nosuch", "", 404, "network nosuch not found"},
		{"GET /exec/nosuch/json", "", 404, "No such exec instance: nosuch"},
		{"GET /containers/up/logs", "", 400, "you must choose at least one stream"},
		{"GET /containers/up/logs?stdout=1&since=yesterday", "", 400, ""},
		{"GET /containers/up/top?ps_args=-o%20nosuchcolumn", "", 400, "unknown column"},
		{"GET /containers/up/archive", "", 400, ""},
		{"GET /containers/up/archive?path=/nosuch", "", 404, "Could not find the file /nosuch in container"},
		{"PUT /containers/up/archive?path=/nosuch", "x", 404, "Could not find the file /nosuch in container"},
		{"POST /containers/up/start", "", 304, ""},
		{"POST /containers/up/kill?signal=NOSUCH", "", 400, "signal: NOSUCH"},
		{"POST /containers/up/kill?signal=99", "", 400, ""},
		{"POST /containers/up/stop?t=soon", "", 400, ""},
		{"POST /containers/up/resize?h=a&w=b", "", 400, ""},
		{"POST /containers/up/rename", "", 400, "Neither old nor new names may be empty"},
		{"POST /containers/up/rename?name=a%20b", "", 400, "Invalid container name"},
		{"POST /containers/up/update", "", 400, ""},
		{"POST /containers/up/update", `{"Memory":1}`, 400, "Minimum memory limit allowed is 6MB"},
		{"POST /containers/up/wait?condition=bored", "", 400, "invalid condition"},
		{"POST /containers/up/exec", "{}", 400, "No exec command specified"},
		{"POST /containers/up/exec", `{"Cmd":"true"}`, 400, ""},
		{"POST /containers/up/unpause", "", 409, "is not paused"},
		{"DELETE /containers/up", "", 409, "container is running"},
		{"DELETE /containers/nosuch?force=1", "", 404, "No such container: nosuch"},
		{"POST /commit", "{}", 404, "No such container"},
		{"POST /commit?container=up&repo=BAD", "{}", 400, "invalid reference format"},
		{"POST /images/create?fromImage=BAD", "", 400, "invalid reference format"},
		{"POST /images/kist.test/busybox/tag?repo=BAD", "", 400, "invalid reference format"},
		{"DELETE /images/nosuch", "", 404, "No such image: nosuch"},
		{"POST /volumes/create", `{"Name":"a b"}`, 400, "includes invalid characters for a local volume name"},
		{"POST /volumes/create", `{"Driver":7}`, 400, ""},
		{"DELETE /volumes/nosuch", "", 404, "no such volume"},
		{"DELETE /networks/bridge", "", 403, "bridge is a pre-defined network and cannot be removed"},
		{"POST /swarm/leave", "", 503, "not part of a swarm"},
		{"GET /nodes", "", 503, "not a swarm manager"},
		{"GET /plugins/nosuch/json", "", 404, "not found"},
	} {
		method, path, _ := strings.Cut(r.op, " ")
		a := c.do(method, strings.ReplaceAll(strings.ReplaceAll(path, `"`, "%22"), "{", "%7B"), r.body)
		name := r.op
		if len(r.body) < 200 {
			name += " " + r.body
		}
		if a.status != r.status || !strings.Contains(a.body, r.words) {
			t.Errorf("%s: %d %s\nwant %d %s", name, a.status, a.body, r.status, r.words)
		}
		if bad := a.wellFormed(); a.status >= 400 && bad != "" {
			t.Errorf("%s: %s: %s", name, bad, a.body)
		}
	}
}

// TestAPIVersions checks what Docker's versions have differently.
func TestAPIVersions(t *testing.T) {
	c := newAPI(t)
	field := func(raw string, path ...string) any {
		t.Helper()
		var v any
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
		for _, p := range path {
			m, _ := v.(map[string]any)
			v = m[p]
		}
		return v
	}
	for _, version := range []string{"1.24", "1.30", "1.41", "1.51"} {
		a := c.do("GET", "/v"+version+"/containers/up/json", "")
		if ip, _ := field(a.body, "NetworkSettings", "IPAddress").(string); ip == "" {
			t.Errorf("v%s: inspect has no NetworkSettings.IPAddress", version)
		}
		a = c.do("GET", "/v"+version+"/version", "")
		if got := field(a.body, "ApiVersion"); a.status != 200 || got == "" {
			t.Errorf("v%s: version: %d %s", version, a.status, a.body)
		}
		for _, path := range []string{"/info", "/containers/json", "/images/json", "/networks", "/volumes", "/system/df", "/_ping"} {
			if a := c.do("GET", "/v"+version+path, ""); a.status != 200 {
				t.Errorf("v%s %s: %d %s", version, path, a.status, a.body)
			}
		}
	}
	if a := c.do("GET", "/v1.52/containers/up/json", ""); strings.Contains(a.body, `"LinkLocalIPv6PrefixLen"`) {
		t.Error("v1.52: inspect has the legacy network fields")
	}
	// Commands as one string, as old clients send them.
	a := c.do("POST", "/v1.24/containers/create", `{"Image":"kist.test/busybox","Cmd":"true"}`)
	if a.status != 201 {
		t.Errorf("v1.24: a command that is a string: %d %s", a.status, a.body)
	}
	// Before 1.30 wait answers with its headers only when the container has ended.
	id, _ := field(a.body, "Id").(string)
	if a := c.do("POST", "/v1.24/containers/"+id+"/start", ""); a.status != 204 {
		t.Errorf("start: %d %s", a.status, a.body)
	}
	if a := c.do("POST", "/v1.24/containers/"+id+"/wait", ""); a.status != 200 || field(a.body, "StatusCode") != 0.0 {
		t.Errorf("wait: %d %s", a.status, a.body)
	}
}

// TestAPINulls sends null, empty and huge values where Docker's types have pointers, lists and maps: they are refused or taken for
// nothing, and nothing fails inside.
func TestAPINulls(t *testing.T) {
	c := newAPI(t)
	const create = "/containers/create"
	image := `"Image":"kist.test/busybox","Cmd":["true"],`
	for _, r := range []struct{ path, body string }{
		{create, `{` + image + `"HostConfig":null,"NetworkingConfig":null}`},
		{create, `{` + image + `"Healthcheck":null,"Volumes":null,"ExposedPorts":null,"Labels":null,"Env":null,"Entrypoint":null}`},
		{create, `{` + image + `"Healthcheck":{"Test":null}}`},
		{create, `{` + image + `"Healthcheck":{"Test":[]}}`},
		{create, `{` + image + `"Healthcheck":{"Test":["CMD"]}}`},
		{create, `{` + image + `"Healthcheck":{"Test":["CMD","x"],"Interval":-1}}`},
		{create, `{` + image + `"Env":[null,"","=","=x"]}`},
		{create, `{` + image + `"Volumes":{"":{},"/":{},"x":{}}}`},
		{create, `{` + image + `"ExposedPorts":{"":{}}}`},
		{create, `{` + image + `"ExposedPorts":{"0/tcp":{}}}`},
		{create, `{` + image + `"Entrypoint":[""],"User":"::"}`},
		{create, `{` + image + `"HostConfig":{"Ulimits":[null]}}`},
		{create, `{` + image + `"HostConfig":{"BlkioWeightDevice":[null]}}`},
		{create, `{` + image + `"HostConfig":{"BlkioDeviceReadBps":[null]}}`},
		{create, `{` + image + `"HostConfig":{"Mounts":[null]}}`},
		{create, `{` + image + `"HostConfig":{"Mounts":[{}]}}`},
		{create, `{` + image + `"HostConfig":{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{}}}]}}`},
		{create, `{` + image + `"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":-1,"Mode":4294967295}}]}}`},
		{create, `{` + image + `"HostConfig":{"Mounts":[{"Type":"bind","Source":"","Target":"/x"}]}}`},
		{create, `{` + image + `"HostConfig":{"Binds":[null,"",":","::","/a:","a:b"]}}`},
		{create, `{` + image + `"HostConfig":{"Devices":[{}]}}`},
		{create, `{` + image + `"HostConfig":{"DeviceRequests":[{}]}}`},
		{create, `{` + image + `"HostConfig":{"DeviceCgroupRules":["",null]}}`},
		{create, `{` + image + `"HostConfig":{"PortBindings":{"80/tcp":null,"":[{}]}}}`},
		{create, `{` + image + `"HostConfig":{"PortBindings":{"80/tcp":[null]}}}`},
		{create, `{` + image + `"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"-1"}]}}}`},
		{create, `{` + image + `"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"-1","max-file":"0"}}}}`},
		{create, `{` + image + `"HostConfig":{"LogConfig":null,"RestartPolicy":null}}`},
		{create, `{` + image + `"HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-5}}}`},
		{create, `{` + image + `"HostConfig":{"Links":["",":",null]}}`},
		{create, `{` + image + `"HostConfig":{"VolumesFrom":["",":ro"]}}`},
		{create, `{` + image + `"HostConfig":{"NetworkMode":"container:"}}`},
		{create, `{` + image + `"HostConfig":{"PidMode":"container:","IpcMode":"container:"}}`},
		{create, `{` + image + `"HostConfig":{"ExtraHosts":["","a",":"],"Dns":[""],"DnsSearch":[""]}}`},
		{create, `{` + image + `"HostConfig":{"Sysctls":{"":""},"Tmpfs":{"":""},"StorageOpt":{"":""},"Annotations":{"":""}}}`},
		{create, `{` + image + `"HostConfig":{"SecurityOpt":["","=",":","seccomp=","seccomp={","no-new-privileges:maybe"]}}`},
		{create, `{` + image + `"HostConfig":{"CapAdd":["",null],"CapDrop":["NO_SUCH"]}}`},
		{create, `{` + image + `"HostConfig":{"Memory":-1,"MemorySwap":-5,"NanoCpus":9223372036854775807,"CpuPeriod":-1,"PidsLimit":-9,"ShmSize":9223372036854775807}}`},
		{create, `{` + image + `"HostConfig":{"CpusetCpus":"0-","CpusetMems":"x","OomScoreAdj":100000,"BlkioWeight":65535}}`},
		{create, `{` + image + `"HostConfig":{"GroupAdd":["",null],"UsernsMode":"x","UTSMode":"x","CgroupnsMode":"x","Isolation":"x","Runtime":"x"}}`},
		{create, `{` + image + `"NetworkingConfig":{"EndpointsConfig":null}}`},
		{create, `{` + image + `"NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}`},
		{create, `{` + image + `"NetworkingConfig":{"EndpointsConfig":{"":{},"nosuch":null}}}`},
		{create, `{` + image + `"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":null,"Links":[null],"Aliases":[null,""],"DriverOpts":null}}}}`},
		{create, `{` + image + `"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"1.2.3"}}}}}`},
		{create, `{"Image":"` + strings.Repeat("x", 1<<13) + `"}`},
		{create + "?name=" + strings.Repeat("x", 1<<16), `{` + image + `"Labels":{}}`},
		{"/v1.24" + create, `{` + image + `"HostConfig":{"KernelMemory":1,"CpuRealtimePeriod":-1,"DiskQuota":5},"MacAddress":""}`},
		{"/containers/up/update", `{"RestartPolicy":null,"Ulimits":[null],"BlkioWeightDevice":[null]}`},
		{"/containers/up/update", `{"BlkioDeviceReadBps":[],"PublishAdd":{"80/tcp":null},"PublishRemove":null}`},
		{"/containers/up/exec", `{"Cmd":[null]}`},
		{"/containers/up/exec", `{"Cmd":[""],"Env":[null],"User":":","WorkingDir":"../x","ConsoleSize":[0,0],"DetachKeys":","}`},
		{"/networks/create", `{"Name":"","IPAM":null}`},
		{"/networks/create", `{"Name":"n1","IPAM":{"Config":[{}]}}`},
		{"/networks/create", `{"Name":"n2","IPAM":{"Config":[null]},"ConfigFrom":null,"Options":null,"Labels":null}`},
		{"/networks/create", `{"Name":"n3","IPAM":{"Config":[{"Subnet":"10.0.0.0/33"}]}}`},
		{"/networks/create", `{"Name":"n4","IPAM":{"Config":[{"Subnet":"10.99.0.0/24","Gateway":"10.98.0.1","IPRange":"10.97.0.0/16","AuxiliaryAddresses":{"a":"x"}}]}}`},
		{"/networks/bridge/connect", `{}`},
		{"/networks/bridge/connect", `{"Container":"up","EndpointConfig":null}`},
		{"/networks/bridge/disconnect", `{"Container":""}`},
		{"/volumes/create", `{"Name":"` + strings.Repeat("v", 5000) + `"}`},
		{"/volumes/create", `{"Driver":"","DriverOpts":{"":""},"Labels":{"":""},"ClusterVolumeSpec":{}}`},
		{"/commit?container=up", `null`},
		{"/commit?container=up", `{"ExposedPorts":{"x":{}},"Healthcheck":{}}`},
		{"/commit?container=up&changes=NOSUCH+x&changes=", `{}`},
		{"/auth", `{"serveraddress":"http://[::1"}`},
		{"/auth", `null`},
		{"/build?buildargs=null&labels=null&cachefrom=null&ulimits=[null]&extrahosts=&shmsize=-1&memory=x", ``},
		{"/build?version=3", ``},
		{"/build?networkmode=host&platform=&target=x&outputs=[null]", ``},
	} {
		a := c.do("POST", r.path, r.body)
		if a.status == 500 {
			t.Errorf("%.80s %.200s: %d %s", r.path, r.body, a.status, a.body)
		}
		if bad := a.wellFormed(); a.status >= 400 && bad != "" {
			t.Errorf("%.80s %.200s: %s: %d %.200s", r.path, r.body, bad, a.status, a.body)
		}
		if id := (&reply{body: []byte(a.body)}).field("Id"); a.status == 201 && r.path == create {
			if s := c.do("POST", "/containers/"+id+"/start", ""); s.status == 500 && !strings.Contains(s.body, "message") {
				t.Errorf("start of %.200s: %d %s", r.body, s.status, s.body)
			}
		}
	}
	if out := c.log(); strings.Contains(out, "panic") {
		t.Errorf("the daemon's log tells of a panic:\n%s", out)
	}
	if a := c.do("GET", "/_ping", ""); a.body != "OK" {
		t.Errorf("ping: %+v", a)
	}
}
