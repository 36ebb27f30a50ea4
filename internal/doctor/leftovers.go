package doctor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// leftovers finds what belongs to no container: it costs room, or keeps a port or an address from others.
func leftovers(_ context.Context, h *host) []Finding {
	if h.stock == nil {
		return []Finding{warn("rows", fmt.Sprintf("nobody knows which containers there are, so nothing can be told apart: %v", h.stockErr), "mend that first")}
	}
	list := slices.Concat(h.strayMounts(), h.strayLinks(), h.strayTables(), h.strayGroups(), h.strayHomes())
	for i := range list {
		list[i].Fixable = list[i].fix != nil
	}
	list = collapse(list)
	if len(list) == 0 {
		return []Finding{ok("none", "no mount, interface, rule, cgroup or directory without a container")}
	}
	return list
}

// mostOfAKind are told one by one.
const mostOfAKind = 5

// collapse makes one finding of many of a kind.
func collapse(list []Finding) []Finding {
	kinds := map[string][]Finding{}
	var order []string
	for _, f := range list {
		kind, _, _ := strings.Cut(f.Name, " ")
		if kinds[kind] == nil {
			order = append(order, kind)
		}
		kinds[kind] = append(kinds[kind], f)
	}
	var out []Finding
	for _, kind := range order {
		all := kinds[kind]
		if len(all) <= mostOfAKind || all[0].fix == nil {
			out = append(out, all...)
			continue
		}
		f := all[0]
		f.Name, f.Text, f.Try = kind, fmt.Sprintf("%d of them, as %s: %s", len(all), f.Name, f.Text), "kist doctor --fix"
		f.fix = func() error {
			var errs []error
			for _, one := range all {
				errs = append(errs, one.fix())
			}
			return errors.Join(errs...)
		}
		out = append(out, f)
	}
	return out
}

var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// strayMounts are those below the roots whose path names a container that does not run.
func (h *host) strayMounts() []Finding {
	var list []Finding
	for _, m := range mounts() {
		if !below(m.at, h.DataRoot) && !below(m.at, h.ExecRoot) {
			continue
		}
		id := containerID.FindString(m.at)
		if id == "" || h.stock.containers[id].running {
			continue
		}
		f := warn("mount", fmt.Sprintf("%s (%s) belongs to %s", m.at, m.kind, h.ended(id)), "umount -l "+m.at)
		f.fix = func() error { return unix.Unmount(m.at, unix.MNT_DETACH) }
		list = append(list, f)
	}
	slices.Reverse(list) // the innermost first
	return list
}

func below(path, root string) bool { return strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/") }

// ended says of a container that it is not, or does not run.
func (h *host) ended(id string) string {
	if c, known := h.stock.containers[id]; known {
		return fmt.Sprintf("the container %s, which does not run", c.name)
	}
	return "the container " + id[:12] + ", which is not there any more"
}

// flags are the roots as kistd takes them.
func (h *host) flags() string {
	if h.DataRoot == "/var/lib/kist" && h.ExecRoot == "/run/kist" {
		return ""
	}
	return fmt.Sprintf("--data-root %s --exec-root %s ", h.DataRoot, h.ExecRoot)
}

func (h *host) anyRunning() bool {
	for _, c := range h.stock.containers {
		if c.running {
			return true
		}
	}
	return false
}

// instances are those of the daemons and keepers that run.
func (h *host) instances() map[string]bool {
	alive := map[string]bool{}
	if h.daemon.pid != 0 {
		alive[h.Instance] = true
	}
	for _, p := range h.called("kistd") {
		root := either(p.flag("--data-root"), p.variable("KIST_DATA_ROOT"))
		if root == "" || root == "/var/lib/kist" {
			alive["0"] = true
			continue
		}
		sum := sha256.Sum256([]byte(root))
		alive[hex.EncodeToString(sum[:3])] = true
	}
	return alive
}

// otherKeepers says whether there are containers of another daemon.
func (h *host) otherKeepers() bool {
	own := filepath.Join(h.ExecRoot, "keeper")
	return slices.ContainsFunc(h.called("kist"), func(p process) bool {
		return len(p.args) == 4 && p.args[1] == "keeper" && p.args[3] != own
	})
}

// strayGroups are cgroups of containers that are not there.
func (h *host) strayGroups() []Finding {
	var list []Finding
	seen := map[string]bool{}
	parent := either(h.CgroupParent, "/docker")
	for _, pattern := range []string{"/sys/fs/cgroup" + parent + "/*", "/sys/fs/cgroup/*" + parent + "/*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			id := filepath.Base(dir)
			if st, err := os.Stat(dir); err != nil || !st.IsDir() || !containerID.MatchString(id) || len(id) != 64 || seen[id] {
				continue
			}
			if _, known := h.stock.containers[id]; known || h.hasTask(id) || parent == "/docker" && !h.ours(id) {
				continue
			}
			seen[id] = true
			f := warn("cgroup", dir+" belongs to "+h.ended(id), "rmdir /sys/fs/cgroup/*"+parent+"/"+id)
			f.fix = func() error { return removeGroups(parent, id) }
			list = append(list, f)
		}
	}
	return list
}

// ours says whether something else of kist's bears the id: docker's own containers have cgroups in the same place.
func (h *host) ours(id string) bool {
	for _, at := range []string{filepath.Join(h.DataRoot, "containers", id), filepath.Join(h.ExecRoot, "keeper", "tasks", id+".task")} {
		if _, err := os.Lstat(at); err == nil {
			return true
		}
	}
	return false
}

func removeGroups(parent, id string) error {
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + parent + "/" + id)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range append(dirs, "/sys/fs/cgroup"+parent+"/"+id) {
		if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// strayHomes are directories of containers without a row. A daemon deletes them when it starts.
func (h *host) strayHomes() []Finding {
	var list []Finding
	for _, d := range []struct{ what, dir string }{
		{"container directory", filepath.Join(h.DataRoot, "containers")},
		{"writable layer", filepath.Join(h.DataRoot, "layers", "c")},
		{"keeper's record", filepath.Join(h.ExecRoot, "keeper", "tasks")},
	} {
		entries, err := os.ReadDir(d.dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			id, _, _ := strings.Cut(e.Name(), ".")
			if len(id) != 64 || !containerID.MatchString(id) {
				continue
			}
			// A step of a build is no container, but has all that one has while it runs.
			if _, known := h.stock.containers[id]; known || h.hasTask(id) {
				continue
			}
			path := filepath.Join(d.dir, e.Name())
			if _, err := os.Lstat(path); err != nil { // removed meanwhile
				continue
			}
			try := "the next start of the daemon deletes it"
			if h.daemon.pid != 0 {
				try = fmt.Sprintf("kill %d && kist ps: the next start of the daemon deletes it (containers go on)", h.daemon.pid)
			}
			list = append(list, warn(d.what, path+" belongs to "+h.ended(id), try))
		}
	}
	return list
}
