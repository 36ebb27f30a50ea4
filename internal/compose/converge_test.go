package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/compose/model"
)

const shop = `
name: shop
services:
  web: {image: web, scale: 2, networks: [default, back]}
  db: {image: db, volumes: ["data:/data"]}
  side: {image: side, network_mode: "service:db"}
  named: {image: named, container_name: mine, scale: 1}
networks: {back: {}}
volumes: {data: {}}
`

func goalOf(t *testing.T, text string, present ...*found) *goal {
	t.Helper()
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := (&model.Options{Files: []string{file}}).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := &goal{p: p, present: present, wants: map[string]*want{}, images: map[string]picture{}, networks: map[string]string{"default": "net", "back": "net2"}}
	for _, name := range p.ServiceNames() {
		g.images[name] = picture{id: "image", ids: []string{"image", "index"}}
	}
	return g
}

// made is a container as it would be if the goal's service had just been made.
func made(t *testing.T, g *goal, service string, number int, change func(*found)) *found {
	t.Helper()
	w, err := g.decide(service)
	if err != nil {
		t.Fatal(err)
	}
	delete(g.wants, service)
	c := &found{container.Summary{
		ID: fmt.Sprintf("%s%d-0123456789abcdef", service, number), Names: []string{"/" + model.ContainerName(g.p.Name, &w.service, number)}, State: container.StateRunning,
		Labels: map[string]string{
			model.LabelService: service, model.LabelProject: "shop", model.LabelNumber: fmt.Sprint(number), model.LabelHash: w.hash, model.LabelImage: "image",
		},
		NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{"a": {NetworkID: "net"}, "b": {NetworkID: "net2"}}},
		Mounts:          []container.MountPoint{{Type: "volume", Name: "shop_data", Destination: "/data"}},
	}}
	if change != nil {
		change(c)
	}
	return c
}

func TestDecide(t *testing.T) {
	set := func(key, value string) func(*found) { return func(c *found) { c.Labels[key] = value } }
	for _, test := range []struct {
		name, service string
		change        func(*found)
		adapt         func(*goal)
		want          string // the reason of the container of number 1
	}{
		{"nothing changed", "web", nil, nil, ""},
		{"another digest of the same image", "web", set(model.LabelImage, "index"), nil, ""},
		{"configuration", "web", set(model.LabelHash, "other"), nil, "its configuration changed"},
		{"image", "web", set(model.LabelImage, "old"), nil, "its image changed"},
		{"network", "web", func(c *found) { delete(c.NetworkSettings.Networks, "b") }, nil, "it is not on network back"},
		{"network of one that does not run", "web", func(c *found) { c.State = container.StateExited; c.NetworkSettings.Networks = nil }, nil, ""},
		{"volume", "db", func(c *found) { c.Mounts[0].Name = "other" }, nil, "volume data is another one"},
		{"interrupted update", "web", func(c *found) { c.Names[0] = "/abc_shop-web-1"; c.Labels[labelBeside] = "x" }, nil, "its update was interrupted"},
		{"a name left from before", "web", func(c *found) { c.Names[0] = "/abc_shop-web-1" }, nil, ""},
		{"as asked for", "web", nil, func(g *goal) { g.recreate = always }, "as asked for"},
		{"only what was named", "db", nil, func(g *goal) { g.recreate, g.targets = always, []string{"web"} }, ""},
		{"never", "web", set(model.LabelHash, "other"), func(g *goal) { g.recreate = never }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := goalOf(t, shop)
			g.present = fleet{made(t, g, test.service, 1, test.change)}
			if test.adapt != nil {
				test.adapt(g)
			}
			w, err := g.decide(test.service)
			if err != nil {
				t.Fatal(err)
			}
			if r := w.replicas[0]; r.why != test.want || r.now == nil {
				t.Errorf("reason %q, want %q", r.why, test.want)
			}
		})
	}
}

// TestSharedFollows makes anew what lives in the namespaces of what is made anew.
func TestSharedFollows(t *testing.T) {
	g := goalOf(t, shop)
	db := made(t, g, "db", 1, nil)
	g.present = fleet{db}
	side := made(t, g, "side", 1, nil)
	g.present = fleet{db, side}
	for _, changed := range []bool{false, true} {
		g.wants = map[string]*want{}
		if changed {
			db.Labels[model.LabelHash] = "other"
		}
		if _, err := g.decide("db"); err != nil {
			t.Fatal(err)
		}
		w, err := g.decide("side")
		if err != nil {
			t.Fatal(err)
		}
		if got := w.replicas[0].why != ""; got != changed {
			t.Errorf("db changed: %t, side is made anew: %q", changed, w.replicas[0].why)
		}
		if w.service.NetworkMode != "container:"+db.ID {
			t.Errorf("network mode %s", w.service.NetworkMode)
		}
	}
}

func TestArrange(t *testing.T) {
	g := goalOf(t, shop)
	old := func(c *found) { c.Labels[model.LabelHash] = "old" }
	stopped := func(c *found) { c.State = container.StateExited }
	for _, test := range []struct {
		name    string
		present fleet
		want    string // numbers; ! is made, * made anew, and how many are too many
	}{
		{"none", nil, "1! 2!, 0"},
		{"both", fleet{made(t, g, "web", 1, nil), made(t, g, "web", 2, nil)}, "1 2, 0"},
		{"one too many", fleet{made(t, g, "web", 1, nil), made(t, g, "web", 2, nil), made(t, g, "web", 3, nil)}, "1 2, 1"},
		{"the old one goes", fleet{made(t, g, "web", 1, old), made(t, g, "web", 2, nil), made(t, g, "web", 3, nil)}, "2 3, 1"},
		{"the stopped one goes", fleet{made(t, g, "web", 1, stopped), made(t, g, "web", 2, nil), made(t, g, "web", 3, nil)}, "2 3, 1"},
		{"two of a number", fleet{made(t, g, "web", 1, old), made(t, g, "web", 1, stopped), made(t, g, "web", 2, old)}, "1 2*, 1"},
		{"an interrupted replacement", fleet{made(t, g, "web", 1, nil), made(t, g, "web", 1, func(c *found) {
			c.Labels[model.LabelReplaces], c.ID, c.State = c.ID, "fresh", container.StateCreated
		}), made(t, g, "web", 2, nil)}, "1 2, 1"},
		{"a gap is filled", fleet{made(t, g, "web", 3, nil)}, "1! 3, 0"},
		{"no number", fleet{made(t, g, "web", 1, func(c *found) { c.Labels[model.LabelNumber] = "x" })}, "1! 2!, 1"},
		{"those of run are others", fleet{made(t, g, "web", 1, func(c *found) { c.Labels[model.LabelOneOff] = "True" })}, "1! 2!, 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.present, g.wants = test.present, map[string]*want{}
			w, err := g.decide("web")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range w.replicas {
				text := fmt.Sprint(r.number)
				if r.now == nil {
					text += "!"
				} else if r.why != "" {
					text += "*"
				}
				got = append(got, text)
			}
			if text := fmt.Sprintf("%s, %d", strings.Join(got, " "), len(w.surplus)); text != test.want {
				t.Errorf("got %s, want %s", text, test.want)
			}
		})
	}
}

// TestInterruptedReplacement goes on with the container that was made: the other one may be stopped in this moment.
func TestInterruptedReplacement(t *testing.T) {
	g := goalOf(t, shop)
	old := made(t, g, "web", 1, nil)
	fresh := made(t, g, "web", 1, func(c *found) {
		c.Labels[model.LabelReplaces], c.ID, c.State = old.ID, "fresh", container.StateCreated
	})
	g.present = fleet{old, fresh}
	w, err := g.decide("web")
	if err != nil {
		t.Fatal(err)
	}
	if w.replicas[0].id != "fresh" || len(w.surplus) != 1 || w.surplus[0] != old {
		t.Errorf("goes on with %s", w.replicas[0].id)
	}
}

func TestOneNameForMany(t *testing.T) {
	g := goalOf(t, strings.Replace(shop, "container_name: mine, scale: 1", "container_name: mine", 1))
	svc := g.p.Services["named"]
	svc.SetScale(2)
	g.p.Services["named"] = svc
	if _, err := g.decide("named"); err == nil || !strings.Contains(err.Error(), "container_name") {
		t.Errorf("got %v", err)
	}
}

func TestWanted(t *testing.T) {
	build := &types.BuildConfig{Context: "."}
	for _, test := range []struct {
		name   string
		policy string
		build  *types.BuildConfig
		w      imageWishes
		there  bool
		want   string
	}{
		{"there", "", nil, imageWishes{}, true, ""},
		{"missing", "", nil, imageWishes{}, false, "pull"},
		{"always", "always", nil, imageWishes{}, true, "pull"},
		{"never", "never", nil, imageWishes{}, false, ""},
		{"flag above file", "always", nil, imageWishes{pull: "missing"}, true, ""},
		{"what the file says", "always", nil, imageWishes{pull: "policy"}, true, "pull"},
		{"build what is missing", "", build, imageWishes{}, false, "build"},
		{"built", "", build, imageWishes{}, true, ""},
		{"build always", "build", build, imageWishes{}, true, "build"},
		{"--build", "", build, imageWishes{build: true}, true, "build"},
		{"pull before building", "missing", build, imageWishes{}, false, "pull"},
		{"--no-build", "", build, imageWishes{noBuild: true}, true, ""},
		{"--no-build of what is missing", "", build, imageWishes{noBuild: true}, false, "error"},
		{"nonsense", "sometimes", nil, imageWishes{}, true, "error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc := types.ServiceConfig{Name: "a", ContainerSpec: types.ContainerSpec{PullPolicy: test.policy}, WorkloadSpec: types.WorkloadSpec{Build: test.build}}
			got, err := wanted(&svc, test.w, test.there)
			if err != nil {
				got = "error"
			}
			if got != test.want {
				t.Errorf("got %q, want %q (%v)", got, test.want, err)
			}
		})
	}
}

func TestInTheWay(t *testing.T) {
	g := goalOf(t, shop)
	for service, free := range map[string]bool{"web": true, "db": false, "side": false} {
		w, err := g.decide(service)
		if err != nil {
			t.Fatal(err)
		}
		if why := g.inTheWay(w); (why == "") != free {
			t.Errorf("%s: %q", service, why)
		}
	}
}

func TestFilesHash(t *testing.T) {
	p := goalOf(t, "name: p\nservices: {a: {image: x, configs: [c]}, b: {image: x}}\nconfigs: {c: {content: text}}").p
	a, b := p.Services["a"], p.Services["b"]
	one, err1 := filesHash(p, &a, "salt")
	two, err2 := filesHash(p, &a, "pepper")
	none, err3 := filesHash(p, &b, "salt")
	if err1 != nil || err2 != nil || err3 != nil || one == two || none != "" || strings.Contains(one, "text") {
		t.Errorf("%q, %q, %q", one, two, none)
	}
	if filesChanged(p, &a, one) || !filesChanged(p, &a, "salt$other") || filesChanged(p, &a, "") {
		t.Error("a change is not told from none")
	}
}
