package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// limits looks at those that many containers run into.
func limits(_ context.Context, h *host) []Finding {
	var list []Finding
	if soft, hard := h.fileLimit(); hard > 0 && hard < 65536 {
		list = append(list, warn("open files", fmt.Sprintf("the daemon may open %d files (%d at most): it needs some for each container and each published port", soft, hard),
			"LimitNOFILE=1048576 in its unit, or ulimit -Hn 1048576 before it is started"))
	} else {
		list = append(list, ok("open files", fmt.Sprintf("%d at most for the daemon", hard)))
	}
	for _, l := range []struct {
		file, what string
		least      int
	}{
		{"fs/inotify/max_user_instances", "programs in containers that watch files", 128},
		{"fs/inotify/max_user_watches", "programs in containers that watch files", 8192},
		{"kernel/pid_max", "processes of all containers together", 32768},
		{"kernel/keys/maxkeys", "session keyrings of containers", 200},
	} {
		n, err := strconv.Atoi(line("/proc/sys/" + l.file))
		name := strings.ReplaceAll(l.file, "/", ".")
		if err == nil && n < l.least {
			list = append(list, warn(name, fmt.Sprintf("%d, which is little for %s", n, l.what), fmt.Sprintf("sysctl -w %s=%d", name, 4*l.least)))
		}
	}
	used, most := openFiles()
	if most > 0 && used > most/10*9 {
		list = append(list, fail("fs.file-max", fmt.Sprintf("%d of %d files of this host are open", used, most), fmt.Sprintf("sysctl -w fs.file-max=%d", 2*most)))
	}
	return list
}

// fileLimit is the running daemon's, or what one started here would have.
func (h *host) fileLimit() (soft, hard uint64) {
	if h.daemon.pid == 0 {
		var r unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
			return r.Cur, r.Max
		}
		return 0, 0
	}
	f := strings.Fields(line2(fmt.Sprintf("/proc/%d/limits", h.daemon.pid), "Max open files"))
	if len(f) < 2 {
		return 0, 0
	}
	soft, _ = strconv.ParseUint(f[0], 10, 64)
	hard, _ = strconv.ParseUint(f[1], 10, 64)
	return soft, hard
}

// openFiles counts all open files of the host.
func openFiles() (used, most int) {
	_, _ = fmt.Sscan(line("/proc/sys/fs/file-nr"), &used, new(int), &most)
	return used, most
}

// clock looks whether it can be right: certificates are checked against it, and caches are ordered by it.
func clock(_ context.Context, h *host) []Finding {
	now := time.Now()
	var newest time.Time
	if self, err := os.Executable(); err == nil {
		if st, err := os.Stat(self); err == nil {
			newest = st.ModTime()
		}
	}
	for _, name := range []string{"kist.db", "content/index.json"} {
		if st, err := os.Stat(filepath.Join(h.DataRoot, name)); err == nil && st.ModTime().After(newest) {
			newest = st.ModTime()
		}
	}
	const slack = 2 * time.Minute
	if newest.After(now.Add(slack)) {
		return []Finding{fail("time", fmt.Sprintf("it is %s, but kist's files were written at %s: certificates seem not valid yet", now.Format(time.DateTime), newest.Format(time.DateTime)), "timedatectl set-ntp true")}
	}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		return []Finding{warn("time", now.Format(time.DateTime)+"; the kernel knows of nothing that keeps the clock in step", "timedatectl set-ntp true")}
	}
	return []Finding{ok("time", now.Format(time.DateTime)+", kept in step with others")}
}

// proxyVariables tell programs how to reach registries.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}

// proxies compares the proxies here with those that the running daemon was started with: it is the daemon that pulls.
func proxies(_ context.Context, h *host) []Finding {
	here := func(name string) string { return either(os.Getenv(name), os.Getenv(strings.ToLower(name))) }
	var set, differ []string
	for _, name := range proxyVariables {
		mine := here(name)
		if mine != "" {
			set = append(set, name+"="+withoutPassword(mine))
		}
		if h.daemon.pid == 0 {
			continue
		}
		p := process{pid: h.daemon.pid}
		if its := either(p.variable(name), p.variable(strings.ToLower(name))); its != mine {
			differ = append(differ, fmt.Sprintf("%s is %s here and %s there", name, quoted(mine), quoted(its)))
		}
	}
	switch {
	case len(differ) > 0:
		return []Finding{warn("proxy", "the running daemon was started with other settings, and it is the daemon that pulls: "+strings.Join(differ, "; "),
			fmt.Sprintf("kill %d && kist ps (containers go on)", h.daemon.pid))}
	case len(set) > 0:
		return []Finding{ok("proxy", strings.Join(set, ", "))}
	}
	return []Finding{ok("proxy", "none")}
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func quoted(s string) string {
	if s == "" {
		return "not set"
	}
	return withoutPassword(s)
}

// withoutPassword hides what stands before the host in a URL.
func withoutPassword(s string) string {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		return s
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = "***@" + rest[i+1:]
	}
	return scheme + "://" + rest
}
