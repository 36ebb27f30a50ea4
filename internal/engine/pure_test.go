package engine

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
)

func TestPhases(t *testing.T) {
	ways := map[phase]string{
		created: "running removing", running: "paused restarting exited", paused: "running restarting exited",
		restarting: "running exited", exited: "running restarting removing", removing: "removing",
	}
	for from, want := range ways {
		for to := created; to <= removing; to++ {
			allowed := strings.Contains(" "+want+" ", " "+to.String()+" ")
			if got, err := from.to(to); allowed != (err == nil) || allowed && got != to || !allowed && got != from {
				t.Errorf("%s to %s: %s, %v; want allowed %v", from, to, got, err, allowed)
			}
		}
		raw, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		var back phase
		if err := json.Unmarshal(raw, &back); err != nil || back != from {
			t.Errorf("%s came back from %s as %s, %v", from, raw, back, err)
		}
	}
	var p phase
	if json.Unmarshal([]byte(`"asleep"`), &p) == nil {
		t.Error("an unknown phase was accepted")
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{"web": "web", "/web": "web", "a.b-c_1": "a.b-c_1", "w": "", "": "", "-x": "", "a b": "", "ü1": ""} {
		got, err := checkName(name)
		if got != want || (want == "") != errdefs.IsInvalidArgument(err) {
			t.Errorf("checkName(%q) = %q, %v", name, got, err)
		}
	}
	tries := 0
	name := newName(func(string) bool { tries++; return tries < 8 })
	if _, err := checkName(name); err != nil || !strings.Contains(name, "_") || tries != 8 {
		t.Errorf("newName = %q after %d tries: %v", name, tries, err)
	}
	if a, b := newID(), newID(); len(a) != 64 || a == b {
		t.Errorf("ids %s, %s", a, b)
	}
}

func TestIndex(t *testing.T) {
	x := newIndex()
	add := func(id, name string) *container {
		c := newContainer(&definition{ID: id, Name: name}, state{})
		if err := x.add(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	web, db := add("abc1", "webserver"), add("abd2", "db")
	for ref, want := range map[string]*container{
		"abc1": web, "abc": web, "webserver": web, "/webserver": web, "db": db, "abd2": db,
	} {
		if got, err := x.find(ref); got != want || err != nil {
			t.Errorf("find(%q) = %v, %v", ref, got, err)
		}
	}
	if _, err := x.find("ab"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("ambiguous prefix: %v", err)
	}
	_, err := x.find("websevrer")
	if f, ok := fault.As(err); !ok || !errdefs.IsNotFound(err) || f.What != "No such container: websevrer" || f.Try != "did you mean webserver?" {
		t.Errorf("unknown name: %v", err)
	}
	if _, err := x.find(""); !errdefs.IsNotFound(err) {
		t.Errorf("no name: %v", err)
	}
	err = x.add(newContainer(&definition{ID: "x", Name: "db"}, state{}))
	want := `Conflict. The container name "/db" is already in use by container "abd2". You have to remove (or rename) that container to be able to reuse that name.`
	if !errdefs.IsConflict(err) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("taken name: %v", err)
	}
	if err := x.rename(web, "webserver", "db"); !errdefs.IsConflict(err) {
		t.Errorf("rename to a taken name: %v", err)
	}
	if err := x.rename(web, "webserver", "www"); err != nil || x.named("webserver") || !x.named("www") {
		t.Errorf("rename: %v", err)
	}
	x.remove(web, "www")
	if _, err := x.find("abc1"); !errdefs.IsNotFound(err) || x.named("www") {
		t.Errorf("removed: %v", err)
	}
}

func TestMerge(t *testing.T) {
	image := func() *dockerspec.DockerOCIImageConfig {
		i := &dockerspec.DockerOCIImageConfig{}
		i.Env, i.Entrypoint, i.Cmd = []string{"PATH=/bin", "A=image"}, []string{"/entry"}, []string{"serve"}
		i.Labels, i.User, i.WorkingDir = map[string]string{"l": "image", "m": "image"}, "app", "/srv"
		i.ExposedPorts = map[string]struct{}{"80/tcp": {}, "9000-9001/udp": {}}
		i.Volumes = map[string]struct{}{"/data": {}}
		i.Healthcheck = &docker.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 2}
		return i
	}
	tests := map[string]struct {
		user            docker.Config
		entrypoint, cmd []string
	}{
		"nothing":               {docker.Config{}, []string{"/entry"}, []string{"serve"}},
		"command":               {docker.Config{Cmd: []string{"sh"}}, []string{"/entry"}, []string{"sh"}},
		"entrypoint":            {docker.Config{Entrypoint: []string{"/mine"}}, []string{"/mine"}, nil},
		"both":                  {docker.Config{Entrypoint: []string{"/mine"}, Cmd: []string{"x"}}, []string{"/mine"}, []string{"x"}},
		"no entrypoint":         {docker.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, nil, []string{"x"}},
		"empty, not nil, alone": {docker.Config{Entrypoint: []string{}}, []string{}, []string{"serve"}},
	}
	for name, tt := range tests {
		got, err := merge(&tt.user, image())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.entrypoint, got.Entrypoint) + cmp.Diff(tt.cmd, got.Cmd); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	user := &docker.Config{
		Env: []string{"A=user", "B=1"}, Labels: map[string]string{"l": "user"}, ExposedPorts: network.PortSet{network.MustParsePort("22/tcp"): {}},
		Volumes: map[string]struct{}{"/mine": {}}, Healthcheck: &docker.HealthConfig{Interval: time.Minute},
	}
	got, err := merge(user, image())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=user", "B=1", "PATH=/bin"}, got.Env) +
		cmp.Diff(map[string]string{"l": "user", "m": "image"}, got.Labels) +
		cmp.Diff(map[string]struct{}{"/data": {}, "/mine": {}}, got.Volumes) +
		cmp.Diff(&docker.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Minute, Retries: 2}, got.Healthcheck); d != "" {
		t.Error(d)
	}
	for _, p := range []string{"22/tcp", "80/tcp", "9000/udp", "9001/udp"} {
		if _, ok := got.ExposedPorts[network.MustParsePort(p)]; !ok {
			t.Errorf("port %s is not exposed: %v", p, got.ExposedPorts)
		}
	}
	if got.User != "app" || got.WorkingDir != "/srv" || len(user.Labels) != 1 || len(user.Env) != 2 {
		t.Errorf("merged %+v from %+v", got, user)
	}
}

func TestValidate(t *testing.T) {
	ok := func() (*docker.Config, *docker.HostConfig) {
		return &docker.Config{Cmd: []string{"true"}}, &docker.HostConfig{LogConfig: docker.LogConfig{Type: "json-file"}}
	}
	for want, spoil := range map[string]func(*docker.Config, *docker.HostConfig){
		"":                        func(*docker.Config, *docker.HostConfig) {},
		"no command specified":    func(c *docker.Config, _ *docker.HostConfig) { c.Cmd = nil },
		"invalid signal: NOPE":    func(c *docker.Config, _ *docker.HostConfig) { c.StopSignal = "NOPE" },
		"cannot be less than 1ms": func(c *docker.Config, _ *docker.HostConfig) { c.Healthcheck = &docker.HealthConfig{Interval: 3} },
		"cannot be negative":      func(c *docker.Config, _ *docker.HostConfig) { c.Healthcheck = &docker.HealthConfig{Retries: -1} },
		"unknown type": func(c *docker.Config, _ *docker.HostConfig) {
			c.Healthcheck = &docker.HealthConfig{Test: []string{"HTTP"}}
		},
		"bad format for add-host":     func(_ *docker.Config, h *docker.HostConfig) { h.ExtraHosts = []string{"nohost"} },
		"can't create 'AutoRemove'":   func(_ *docker.Config, h *docker.HostConfig) { h.AutoRemove, h.RestartPolicy.Name = true, "always" },
		"unknown policy 'sometimes'":  func(_ *docker.Config, h *docker.HostConfig) { h.RestartPolicy.Name = "sometimes" },
		"port publishing and the con": func(_ *docker.Config, h *docker.HostConfig) { h.NetworkMode, h.PublishAllPorts = "container:x", true },
		"invalid container format":    func(_ *docker.Config, h *docker.HostConfig) { h.NetworkMode = "container:" },
		"nosuchdriver":                func(_ *docker.Config, h *docker.HostConfig) { h.LogConfig.Type = "nosuchdriver" },
	} {
		c, h := ok()
		spoil(c, h)
		err := validate(c, h)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("want %q, got %v", want, err)
		case err != nil && !errdefs.IsInvalidArgument(err) && !errdefs.IsNotImplemented(err):
			t.Errorf("class of %v", err)
		}
	}
}

func TestSignals(t *testing.T) {
	for text, want := range map[string]int{
		"TERM": 15, "SIGTERM": 15, "sigkill": 9, "9": 9, "hup": 1, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "64": 64,
		"0": 0, "65": 0, "SIGNOPE": 0, "": 0, "RTMIN+99": 0, "RTMINx": 0, "-1": 0,
	} {
		got, err := parseSignal(text)
		if int(got) != want && want != 0 || (want == 0) != errdefs.IsInvalidArgument(err) {
			t.Errorf("parseSignal(%q) = %d, %v", text, got, err)
		}
	}
	if n := signalName(15); n != "SIGTERM" {
		t.Error(n)
	}
	if n := signalName(37); n != "SIGRTMIN+3" {
		t.Error(n)
	}
}

func TestParseBind(t *testing.T) {
	tests := map[string]mountPoint{
		"/src:/dst":                {Type: mount.TypeBind, Source: "/src", Target: "/dst", MakeSource: true},
		"/src/:/dst/:ro":           {Type: mount.TypeBind, Source: "/src", Target: "/dst", MakeSource: true, ReadOnly: true, Mode: "ro"},
		"/src:/dst:rslave,z":       {Type: mount.TypeBind, Source: "/src", Target: "/dst", MakeSource: true, Propagation: "rslave", Mode: "rslave,z"},
		"vol:/dst":                 {Type: mount.TypeVolume, Name: "vol", Target: "/dst"},
		"vol:/dst:nocopy":          {Type: mount.TypeVolume, Name: "vol", Target: "/dst", NoCopy: true, Mode: "nocopy"},
		"/a/../b:/dst:rw,cached":   {Type: mount.TypeBind, Source: "/b", Target: "/dst", MakeSource: true, Mode: "rw,cached"},
		"":                         {},
		"/dst":                     {},
		"vol:dst":                  {},
		"vol:/":                    {},
		"vol:/x/..":                {},
		"vol:/dst:ro,rw":           {},
		"vol:/dst:rslave":          {},
		"/src:/dst:nocopy":         {},
		"/src:/dst:shared,private": {},
		"/src:/dst:ro:more":        {},
		":/dst":                    {},
		"/src::ro":                 {},
		"/src:/dst:nonsense":       {},
		"/src:/dst:":               {},
	}
	for spec, want := range tests {
		got, err := parseBind(spec)
		if (want.Target == "") != errdefs.IsInvalidArgument(err) {
			t.Errorf("parseBind(%q): %v", spec, err)
			continue
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(mountPoint{})); err == nil && d != "" {
			t.Errorf("parseBind(%q): %s", spec, d)
		}
	}
}

func FuzzParseBind(f *testing.F) {
	f.Add("/a:/b:ro")
	f.Add("v:/b:nocopy,z")
	f.Fuzz(func(t *testing.T, spec string) {
		m, err := parseBind(spec)
		if err == nil && (!strings.HasPrefix(m.Target, "/") || m.Target == "/" || m.Type == mount.TypeBind && !strings.HasPrefix(m.Source, "/")) {
			t.Errorf("parseBind(%q) = %+v", spec, m)
		}
	})
}

func TestParseMount(t *testing.T) {
	bad := map[string]mount.Mount{
		"field Target must not be empty":      {Type: "bind", Source: "/x"},
		"mount path must be absolute":         {Type: "bind", Source: "x", Target: "/y"},
		"field Source must not be empty":      {Type: "bind", Target: "/y"},
		"mount type unknown":                  {Type: "floppy", Target: "/y"},
		"VolumeOptions must not be":           {Type: "bind", Source: "/x", Target: "/y", VolumeOptions: &mount.VolumeOptions{}},
		"subpath must be a relative path":     {Type: "volume", Source: "v", Target: "/y", VolumeOptions: &mount.VolumeOptions{Subpath: "../x"}},
		"field Source must not be specified":  {Type: "tmpfs", Source: "x", Target: "/y"},
		"invalid propagation mode":            {Type: "bind", Source: "/x", Target: "/y", BindOptions: &mount.BindOptions{Propagation: "no"}},
		"within the image":                    {Type: "image", Source: "x", Target: "/y", ImageOptions: &mount.ImageOptions{Subpath: "/etc"}},
		"\"image\": field Source must not be": {Type: "image", Target: "/y"},
		"can be idmapped":                     {Type: "tmpfs", Target: "/y", Consistency: "idmap"},
		"destination can't be '/'":            {Type: "bind", Source: "/x", Target: "/"},
		"ReadOnlyForceRecursive":              {Type: "bind", Source: "/x", Target: "/y", BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}},
	}
	for want, spec := range bad {
		if _, err := parseMount(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	m, err := parseMount(mount.Mount{Type: "tmpfs", Target: "/t", ReadOnly: true, TmpfsOptions: &mount.TmpfsOptions{
		SizeBytes: 4096, Mode: 0o700, Options: [][]string{{"exec"}, {"uid", "5"}},
	}})
	want := []string{"noexec", "nosuid", "nodev", "size=4096", "mode=700", "exec", "uid=5"}
	if d := cmp.Diff(want, m.Tmpfs); err != nil || d != "" {
		t.Error(err, d)
	}
	for want, m := range map[string]mountPoint{
		"rbind rprivate":     {},
		"rbind rprivate rro": {ReadOnly: true},
		"rbind rshared ro":   {ReadOnly: true, ReadOnlyNonRecursive: true, Propagation: "rshared"},
		"bind rprivate ro":   {ReadOnly: true, NonRecursive: true},
	} {
		if got := strings.Join(m.bindOptions(), " "); got != want {
			t.Errorf("options %q, want %q", got, want)
		}
	}
}

func TestSwapped(t *testing.T) {
	const all = 1<<32 - 1
	for _, pair := range [][2]uint32{{0, 1000}, {1000, 0}, {7, 8}, {5, 5}, {0, all - 1}} {
		var next, total uint64
		shown := map[uint32]uint32{}
		for _, m := range swapped(pair[0], pair[1]) {
			if uint64(m.ContainerID) != next {
				t.Errorf("%v: a gap or an overlap before %d", pair, m.ContainerID)
			}
			next += uint64(m.Size)
			total += uint64(m.Size)
			for _, id := range pair {
				if id >= m.ContainerID && uint64(id) < uint64(m.ContainerID)+uint64(m.Size) {
					shown[id] = id - m.ContainerID + m.HostID
				}
			}
		}
		if total != all || shown[pair[0]] != pair[1] || shown[pair[1]] != pair[0] {
			t.Errorf("%v: %d ids, %v", pair, total, shown)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for text, want := range map[string]string{
		"": "\x10\x11", "ctrl-a": "\x01", "a,ctrl-b": "a\x02", "ctrl-@": "\x00", "ctrl-[": "\x1b", "ctrl-_,x": "\x1fx",
		"ctrl-1": "!", "abc": "!", "a,": "!", ",": "!",
	} {
		got, err := detachKeys(text)
		if want == "!" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("detachKeys(%q) = %q, %v", text, got, err)
			}
			continue
		}
		if string(got) != want || err != nil {
			t.Errorf("detachKeys(%q) = %q, %v", text, got, err)
		}
	}
}

func TestStatusWords(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, st := range map[string]state{
		"Created":                               {Phase: created},
		"Up 2 minutes":                          {Phase: running, StartedAt: at(2 * time.Minute)},
		"Up 2 minutes (healthy)":                {Phase: running, StartedAt: at(2 * time.Minute), Health: docker.Healthy},
		"Up 5 seconds (health: starting)":       {Phase: running, StartedAt: at(5 * time.Second), Health: docker.Starting},
		"Up About an hour (Paused)":             {Phase: paused, StartedAt: at(time.Hour)},
		"Exited (0) 3 seconds ago":              {Phase: exited, FinishedAt: at(3 * time.Second)},
		"Restarting (1) Less than a second ago": {Phase: restarting, ExitCode: 1, FinishedAt: at(100 * time.Millisecond)},
		"Removal In Progress":                   {Phase: removing},
		"Exited (137) 2 days ago":               {Phase: exited, ExitCode: 137, FinishedAt: at(50 * time.Hour)},
	} {
		if got := (entry{st: st}).status(now); got != want {
			t.Errorf("status %q, want %q", got, want)
		}
	}
	if got := commandLine("sh", []string{"-c", "echo a b"}); got != "sh -c 'echo a b'" {
		t.Error(got)
	}
}

func TestRestartPolicies(t *testing.T) {
	long := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	policy := func(name string, n int) docker.RestartPolicy {
		return docker.RestartPolicy{Name: docker.RestartPolicyMode(name), MaximumRetryCount: n}
	}
	for _, tt := range []struct {
		policy    docker.RestartPolicy
		st        state
		code      int
		unhealthy bool
		restart   bool
		revival   bool
	}{
		{policy: policy("no", 0), code: 1},
		{policy: policy("always", 0), restart: true, revival: true},
		{policy: policy("always", 0), st: state{Stopped: true}, revival: true},
		{policy: policy("unless-stopped", 0), restart: true, revival: true},
		{policy: policy("unless-stopped", 0), st: state{Stopped: true}},
		{policy: policy("on-failure", 0), code: 0},
		{policy: policy("on-failure", 0), code: 3, restart: true, revival: true},
		{policy: policy("on-failure", 2), st: state{Restarts: 1}, code: 3, restart: true, revival: true},
		{policy: policy("on-failure", 2), st: state{Restarts: 2}, code: 3},
		{policy: policy("on-failure", 0), code: 0, unhealthy: true, restart: true},
		{policy: policy("on-failure", 0), st: state{Stopped: true}, code: 1},
	} {
		if got := wantsRestart(tt.policy, tt.st, tt.code, tt.unhealthy); got != tt.restart {
			t.Errorf("%+v: restart %v", tt, got)
		}
		if wantsRevival(tt.policy, tt.st) {
			t.Errorf("%+v: revived though it was never started", tt)
		}
		tt.st.StartedAt, tt.st.ExitCode = long, tt.code
		if got := wantsRevival(tt.policy, tt.st); got != tt.revival {
			t.Errorf("%+v: revival %v", tt, got)
		}
	}
	var b backoff
	var waits []time.Duration
	for range 12 {
		waits = append(waits, b.next(time.Second))
	}
	if waits[0] != 100*time.Millisecond || waits[1] != 200*time.Millisecond || waits[9] != 51200*time.Millisecond || waits[11] != time.Minute {
		t.Errorf("waits %v", waits)
	}
	if d := b.next(11 * time.Second); d != firstDelay {
		t.Errorf("after a good run: %v", d)
	}
}

func TestExitCodeOfStartFailures(t *testing.T) {
	if got := exitCodeOf(errors.New("no network")); got != 128 {
		t.Error(got)
	}
}
