package scope

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// world has things whose names begin with "shop".
type world struct{ made []string }

func (w *world) own(kind, name string) error {
	if !strings.HasPrefix(name, "shop") {
		return fmt.Errorf("no such %s %s: %w", kind, name, errdefs.ErrNotFound)
	}
	return nil
}
func (w *world) Container(name string) error { return w.own("container", name) }
func (w *world) Network(name string) error   { return w.own("network", name) }
func (w *world) Volume(name string) error {
	w.made = append(w.made, name)
	return w.own("volume", name)
}

func shop(t *testing.T) *Scope {
	t.Helper()
	s, err := New(Options{
		Socket: "/run/shop.sock", Project: "shop", Binds: []string{"/srv/shop", "/srv/read:ro"}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContainer(t *testing.T) {
	yes := true
	for _, tc := range []struct {
		name  string
		host  container.HostConfig
		fault string
	}{
		{"a usual one", container.HostConfig{
			NetworkMode: "shop_default", Binds: []string{"shop_data:/data", "/srv/shop:/app", "/srv/read:/r:ro"}, AutoRemove: true, CapDrop: []string{"ALL"},
			CapAdd: []string{"CAP_NET_BIND_SERVICE"}, SecurityOpt: []string{"no-new-privileges"}, ShmSize: 1 << 20, Init: &yes,
			Resources: container.Resources{Memory: 1 << 26, Devices: []container.DeviceMapping{}, BlkioWeightDevice: []*blkiodev.WeightDevice{}},
			Mounts:    []mount.Mount{{Type: mount.TypeTmpfs, Target: "/t"}, {Type: mount.TypeVolume, Source: "shop_v", Target: "/v"}},
		}, ""},
		{"no network", container.HostConfig{NetworkMode: "none"}, ""},
		{"another's namespaces", container.HostConfig{NetworkMode: "container:shop-1", PidMode: "container:shop-1", IpcMode: "container:shop-1"}, ""},
		{"everybody's network", container.HostConfig{}, "everybody's"},
		{"bridge", container.HostConfig{NetworkMode: "bridge"}, "everybody's"},
		{"host network", container.HostConfig{NetworkMode: "host"}, "host"},
		{"a foreign network", container.HostConfig{NetworkMode: "bank_default"}, "bank_default"},
		{"a foreign container's network", container.HostConfig{NetworkMode: "container:bank-1"}, "bank-1"},
		{"host pid", container.HostConfig{NetworkMode: "none", PidMode: "host"}, "PID"},
		{"foreign pid", container.HostConfig{NetworkMode: "none", PidMode: "container:bank-1"}, "bank-1"},
		{"host ipc", container.HostConfig{NetworkMode: "none", IpcMode: "host"}, "IPC"},
		{"host uts", container.HostConfig{NetworkMode: "none", UTSMode: "host"}, "UTSMode"},
		{"host users", container.HostConfig{NetworkMode: "none", UsernsMode: "host"}, "UsernsMode"},
		{"host cgroups", container.HostConfig{NetworkMode: "none", CgroupnsMode: "host"}, "cgroup"},
		{"cgroup parent", container.HostConfig{NetworkMode: "none", Resources: container.Resources{CgroupParent: "/"}}, "CgroupParent"},
		{"privileged", container.HostConfig{NetworkMode: "none", Privileged: true}, "privileged"},
		{"capability", container.HostConfig{NetworkMode: "none", CapAdd: []string{"SYS_ADMIN"}}, "SYS_ADMIN"},
		{"all capabilities", container.HostConfig{NetworkMode: "none", CapAdd: []string{"ALL"}}, "ALL"},
		{"no seccomp", container.HostConfig{NetworkMode: "none", SecurityOpt: []string{"seccomp=unconfined"}}, "seccomp"},
		{"unmasked paths", container.HostConfig{NetworkMode: "none", MaskedPaths: []string{}}, "masked"},
		{"writable paths", container.HostConfig{NetworkMode: "none", ReadonlyPaths: []string{}}, "masked"},
		{"device", container.HostConfig{NetworkMode: "none", Resources: container.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/dev/sda"}}}}, "device"},
		{"gpu", container.HostConfig{NetworkMode: "none", Resources: container.Resources{DeviceRequests: []container.DeviceRequest{{Driver: "cdi"}}}}, "device"},
		{"device rule", container.HostConfig{NetworkMode: "none", Resources: container.Resources{DeviceCgroupRules: []string{"a *:* rwm"}}}, "device"},
		{"annotated device", container.HostConfig{NetworkMode: "none", Annotations: map[string]string{"cdi.k8s.io/x": "y"}}, "annotation"},
		{"no oom killer", container.HostConfig{NetworkMode: "none", Resources: container.Resources{OomKillDisable: &yes}}, "OOM"},
		{"oom score", container.HostConfig{NetworkMode: "none", OomScoreAdj: -1}, "OomScoreAdj"},
		{"blkio of a device", container.HostConfig{NetworkMode: "none", Resources: container.Resources{BlkioWeightDevice: []*blkiodev.WeightDevice{{}}}}, "BlkioWeightDevice"},
		{"root", container.HostConfig{NetworkMode: "none", Binds: []string{"/:/host"}}, "mounting /"},
		{"below what is listed", container.HostConfig{NetworkMode: "none", Binds: []string{"/srv/shop/link:/x"}}, "mounting /srv/shop/link"},
		{"dots", container.HostConfig{NetworkMode: "none", Binds: []string{"/srv/shop/../..:/x"}}, "mounting"},
		{"the daemon's socket", container.HostConfig{NetworkMode: "none", Binds: []string{"/var/run/docker.sock:/s"}}, "mounting"},
		{"writing what is to be read", container.HostConfig{NetworkMode: "none", Binds: []string{"/srv/read:/r"}}, "for writing"},
		{"shared mount", container.HostConfig{NetworkMode: "none", Binds: []string{"/srv/shop:/r:rshared"}}, "rshared"},
		{"bind as a mount", container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/etc", Target: "/x"}}}, "mounting /etc"},
		{"dots in a mount", container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/srv/shop/x/..", Target: "/x"}}}, "mounting"},
		{"shared as a mount", container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/srv/shop", Target: "/x", BindOptions: &mount.BindOptions{Propagation: "shared"}}}}, "propagation"},
		{"idmapped", container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/srv/shop", Target: "/x", Consistency: "idmap"}}}, "idmap"},
		{"a disk as a volume", container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeVolume, Target: "/x", VolumeOptions: &mount.VolumeOptions{
			DriverConfig: &mount.Driver{Options: map[string]string{"type": "ext4", "device": "/dev/sda1"}},
		}}}}, "volume option"},
		{"a pipe", container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeNamedPipe}}}, "npipe"},
		{"a foreign volume", container.HostConfig{NetworkMode: "none", Binds: []string{"bank_data:/x"}}, "bank_data"},
		{"volumes of a foreign container", container.HostConfig{NetworkMode: "none", VolumesFrom: []string{"bank-1:ro"}}, "bank-1"},
		{"a link to a foreign container", container.HostConfig{NetworkMode: "none", Links: []string{"bank-1:x"}}, "bank-1"},
		{"a volume driver", container.HostConfig{NetworkMode: "none", VolumeDriver: "nfs"}, "volume driver"},
		{"a runtime", container.HostConfig{NetworkMode: "none", Runtime: "other"}, "runtime"},
		{"a log driver", container.HostConfig{NetworkMode: "none", LogConfig: container.LogConfig{Type: "syslog"}}, "log driver"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := fmt.Sprintf("%+v", tc.host)
			r := &container.CreateRequest{Config: &container.Config{Labels: map[string]string{"a": "b"}}, HostConfig: &tc.host}
			w := new(world)
			err := shop(t).Container(r, w)
			switch {
			case tc.fault == "" && err != nil:
				t.Fatal(err)
			case tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
				t.Fatalf("%v, want %q in it", err, tc.fault)
			case tc.fault == "" && (r.Labels[ProjectLabel] != "shop" || r.Labels["a"] != "b"):
				t.Errorf("labels %v", r.Labels)
			}
			if after := fmt.Sprintf("%+v", tc.host); after != before {
				t.Errorf("the request was changed:\n%s\n%s", before, after)
			}
			if tc.fault != "" && tc.fault != "bank_data" && len(w.made) > 0 {
				t.Errorf("made %v before it refused", w.made)
			}
		})
	}
}

// TestEverySettingIsLookedAt sets each field of the host configuration, one after the other: none of them may go through that the
// package has not been told of.
func TestEverySettingIsLookedAt(t *testing.T) {
	fine := "ContainerIDFile PortBindings RestartPolicy AutoRemove ConsoleSize Annotations CapDrop DNS DNSOptions DNSSearch ExtraHosts GroupAdd " +
		"PublishAllPorts ReadonlyRootfs StorageOpt Tmpfs ShmSize Sysctls Umask Init LogConfig OomScoreAdj " +
		"CPUShares Memory NanoCPUs BlkioWeight CPUPeriod CPUQuota CpusetCpus CpusetMems MemoryReservation MemorySwap MemorySwappiness PidsLimit Ulimits"
	try := func(h *container.HostConfig, v reflect.Value, name string) {
		t.Helper()
		switch v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(1)
		case reflect.Uint16, reflect.Uint64:
			v.SetUint(1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		case reflect.Map:
			m := reflect.MakeMap(v.Type())
			m.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
			v.Set(m)
		case reflect.Pointer:
			p := reflect.New(v.Type().Elem())
			if p.Elem().Kind() == reflect.Bool {
				p.Elem().SetBool(true)
			}
			v.Set(p)
		case reflect.Array:
			v.Index(0).SetUint(1)
		case reflect.Struct: // RestartPolicy, LogConfig: the zero value says nothing.
		default:
			t.Fatalf("%s is a %s: tell this test how to set it", name, v.Kind())
		}
		r := &container.CreateRequest{Config: &container.Config{}, HostConfig: h}
		err := shop(t).Container(r, new(world))
		if allowed := err == nil; allowed != strings.Contains(" "+fine+" ", " "+name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range reflect.TypeFor[container.HostConfig]().NumField() {
		f := reflect.TypeFor[container.HostConfig]().Field(i)
		if f.Name == "Resources" || f.Name == "Binds" { // Below; and a bind without a target is the engine's to refuse.
			continue
		}
		h := &container.HostConfig{NetworkMode: "none"}
		try(h, reflect.ValueOf(h).Elem().Field(i), f.Name)
	}
	for i := range reflect.TypeFor[container.Resources]().NumField() {
		h := &container.HostConfig{NetworkMode: "none"}
		try(h, reflect.ValueOf(&h.Resources).Elem().Field(i), reflect.TypeFor[container.Resources]().Field(i).Name)
	}
}

func TestNetworkAndVolume(t *testing.T) {
	s := shop(t)
	subnet := func(p string) *network.IPAM {
		return &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix(p)}}}
	}
	for _, tc := range []struct {
		r    network.CreateRequest
		fine bool
	}{
		{network.CreateRequest{Name: "shop_default", Driver: "bridge", Options: map[string]string{"com.docker.network.driver.mtu": "1400"}}, true},
		{network.CreateRequest{IPAM: subnet("10.9.8.0/24")}, true},
		{network.CreateRequest{IPAM: subnet("10.0.0.0/8")}, false},
		{network.CreateRequest{IPAM: subnet("8.8.8.0/24")}, false},
		{network.CreateRequest{Driver: "macvlan"}, false},
		{network.CreateRequest{ConfigFrom: &network.ConfigReference{Network: "x"}}, false},
		{network.CreateRequest{Options: map[string]string{"com.docker.network.bridge.name": "br0"}}, false},
		{network.CreateRequest{Labels: map[string]string{ProjectLabel: "bank"}}, false},
	} {
		err := s.Network(&tc.r)
		if (err == nil) != tc.fine || err == nil && tc.r.Labels[ProjectLabel] != "shop" || err != nil && !errdefs.IsPermissionDenied(err) {
			t.Errorf("%+v: %v", tc.r, err)
		}
	}
	for _, tc := range []struct {
		driver  string
		options map[string]string
		fine    bool
	}{
		{"local", nil, true},
		{"", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5"}, true},
		{"nfs", nil, false},
		{"", map[string]string{"type": "none", "device": "/", "o": "bind"}, false},
		{"", map[string]string{"type": "tmpfs", "device": "/", "o": "size=1m"}, false},
		{"", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,bind"}, false},
		{"", map[string]string{"type": "ext4", "device": "/dev/sda1"}, false},
	} {
		if err := s.Volume(tc.driver, tc.options); (err == nil) != tc.fine {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	if err := s.Exec(container.ExecCreateRequest{Privileged: true}); err == nil {
		t.Error("a privileged exec is allowed")
	}
	if err := s.Update(container.UpdateConfig{Resources: container.Resources{Memory: 5}}); err != nil {
		t.Error(err)
	}
	if err := s.Update(container.UpdateConfig{Resources: container.Resources{CgroupParent: "/x"}}); err == nil {
		t.Error("an update of the cgroup's parent is allowed")
	}
}

func TestNew(t *testing.T) {
	for _, o := range []Options{
		{},
		{Binds: []string{"/x"}, ReadOnly: true},
		{Project: "Shop"},
		{Project: "shop", Binds: []string{"relative"}},
		{Project: "shop", Binds: []string{"/"}},
		{Project: "shop", Binds: []string{"/a/../b"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is allowed", o)
		}
	}
	s, err := New(Options{ReadOnly: true})
	if err != nil || !s.Owns(nil) {
		t.Error(err)
	}
}
