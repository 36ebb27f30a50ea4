package cli

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// createCases are flags of create and run, without the image.
var createCases = []struct {
	name string
	args []string
}{
	{"nothing", nil},
	{"process", []string{"-i", "-t", "-u", "1:2", "-w", "/x", "-h", "box", "--domainname", "d", "--entrypoint", "/bin/sh", "--init", "--stop-signal", "SIGINT", "--stop-timeout", "3"}},
	{"empty entry point", []string{"--entrypoint", ""}},
	{"attach", []string{"-a", "stdin", "-a", "STDOUT"}},
	{"env", []string{"-e", "A=1", "-e", "FROM_SHELL", "-e", "NOT_SET", "-e", "A=2", "--env-file", "env"}},
	{"labels", []string{"-l", "a", "-l", "b=c", "--label-file", "labels"}},
	{"ports", []string{"-p", "80", "-p", "8080:81", "-p", "127.0.0.1:8082:82/udp", "-p", "[::1]:8083:83", "-p", "9000-9002:90-92", "-p", "127.0.0.1::84", "-p", "5000-5010:50"}},
	{"long port", []string{"-p", "target=80,published=8080,protocol=udp", "-P", "--expose", "7000-7002", "--expose", "53/udp"}},
	{"volumes", []string{"-v", "/a:/b", "-v", "name:/c:ro", "-v", "/anon", "-v", "./rel:/d:rw,z", "-v", "/e:/f:rshared", "--volumes-from", "x:ro", "--volume-driver", "local"}},
	{"tmpfs", []string{"--tmpfs", "/run:size=1m,noexec", "--tmpfs", "/tmp"}},
	{"mount bind", []string{"--mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared,bind-recursive=disabled"}},
	{"mount relative", []string{"--mount", "type=bind,src=./a,dst=/b,bind-recursive=enabled,consistency=cached"}},
	{"mount volume", []string{"--mount", "source=v,target=/b,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=x,volume-subpath=p,ro=false"}},
	{"mount tmpfs", []string{"--mount", "type=tmpfs,destination=/b,tmpfs-size=1m,tmpfs-mode=1770"}},
	{"mount quoted", []string{"--mount", `type=volume,"volume-opt=o=addr=1,rw",src=v,dst=/b`}},
	{"mount image", []string{"--mount", "type=image,source=busybox,target=/b,image-subpath=bin"}},
	{"limits", []string{"-m", "64m", "--memory-swap", "-1", "--memory-reservation", "32m", "--memory-swappiness", "10", "--cpus", "1.5", "-c", "512", "--cpu-period", "1000", "--cpu-quota", "2000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "7", "--oom-kill-disable", "--oom-score-adj", "-5", "--shm-size", "128m", "--ulimit", "nofile=10:20", "--ulimit", "core=0", "--cpu-rt-period", "5", "--cpu-rt-runtime", "6"}},
	{"block i/o", []string{"--blkio-weight", "300", "--blkio-weight-device", "/dev/sda:200", "--device-read-bps", "/dev/sda:1mb", "--device-write-bps", "/dev/sda:2mb", "--device-read-iops", "/dev/sda:100", "--device-write-iops", "/dev/sda:200"}},
	{"devices", []string{"--device", "/dev/null", "--device", "/dev/zero:/dev/y:r", "--device", "/dev/full:rw", "--device", "vendor.com/class=dev", "--device-cgroup-rule", "c 1:3 rwm"}},
	{"gpus all", []string{"--gpus", "all"}},
	{"gpus fields", []string{"--gpus", `"device=0,1",driver=nvidia,"capabilities=compute,utility"`}},
	{"gpus count", []string{"--gpus", "2"}},
	{"security", []string{"--cap-add", "net_admin", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--security-opt", "label:disable", "--security-opt", "seccomp=profile.json", "--security-opt", "apparmor=unconfined", "--privileged", "--read-only", "--userns", "host", "--group-add", "audio"}},
	{"capabilities both ways", []string{"--cap-add", "chown", "--cap-drop", "CHOWN", "--cap-drop", "kill"}},
	{"every capability", []string{"--cap-add", "all", "--cap-add", "chown", "--cap-drop", "kill"}},
	{"system paths", []string{"--security-opt", "systempaths=unconfined"}},
	{"namespaces", []string{"--pid", "host", "--uts", "host", "--ipc", "shareable", "--cgroupns", "host", "--cgroup-parent", "/p", "--sysctl", "net.ipv4.ip_forward=1", "--runtime", "runc", "--storage-opt", "size=1G", "--isolation", "default"}},
	{"restart", []string{"--restart", "on-failure:3"}},
	{"restart always", []string{"--restart", "always"}},
	{"rm", []string{"--rm", "--cidfile", "cid", "--name", "n", "--platform", "linux/amd64"}},
	{"logging", []string{"--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "labels=a"}},
	{"health", []string{"--health-cmd", "true", "--health-interval", "5s", "--health-timeout", "1s", "--health-retries", "2", "--health-start-period", "3s", "--health-start-interval", "1s"}},
	{"no health", []string{"--no-healthcheck"}},
	{"dns", []string{"--dns", "8.8.8.8", "--dns-search", "a.b", "--dns-option", "ndots:2", "--add-host", "h:1.2.3.4", "--add-host", "g=host-gateway", "--add-host", "v6:::1", "--add-host", "w6=[::2]"}},
	{"host network", []string{"--network", "host"}},
	{"none network", []string{"--net", "none"}},
	{"container network", []string{"--network", "container:other"}},
	{"user network", []string{"--network", "mine"}},
	{"network options", []string{"--network", "mine", "--network-alias", "a", "--ip", "10.0.0.5", "--ip6", "2001:db8::5", "--mac-address", "02:42:ac:11:00:02", "--link", "other:o", "--link-local-ip", "169.254.1.2"}},
	{"long network", []string{"--network", "name=mine,alias=a,alias=b,ip=10.0.0.5,mac-address=02:42:ac:11:00:02,driver-opt=x=y,gw-priority=3"}},
	{"two networks", []string{"--network", "one", "--network", "two"}},
	{"link on the bridge", []string{"--link", "other:o", "--link", "third"}},
	{"mac on the bridge", []string{"--mac-address", "02:42:ac:11:00:02"}},
	{"annotation", []string{"--annotation", "a=b"}},
}

// caseDir makes the files that the cases name.
func caseDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"env":          "\ufeff# comment\n\nB=2\n  C=three words \nABSENT\n",
		"labels":       "x=1\ny\n",
		"profile.json": "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCreateAsDocker compares the create request with that of the real docker command, flag by flag.
func TestCreateAsDocker(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("no docker command on this machine")
	}
	t.Setenv("FROM_SHELL", "shell value")
	for _, tc := range createCases {
		t.Run(tc.name, func(t *testing.T) {
			d := newFakeDaemon(t)
			d.answer("POST /containers/create", 201, `{"Id":"abc","Warnings":[]}`)
			d.answer("GET /info", 200, `{"OSType":"linux"}`)
			t.Chdir(caseDir(t))
			args := slices.Concat([]string{"create"}, tc.args, []string{"busybox", "echo", "-n", "hi"})
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, docker, append([]string{"-H", d.host}, args...)...)
			cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
			out, err := cmd.CombinedOutput()
			theirs := d.seen("POST /containers/create")
			if err != nil || len(theirs) != 1 {
				t.Fatalf("docker: %v: %s", err, out)
			}
			d.reset()
			_ = os.Remove("cid")
			if r := d.kist(args...); r.code != 0 || r.out != "abc\n" {
				t.Fatalf("kist: %+v", r)
			}
			ours := d.seen("POST /containers/create")
			if len(ours) != 1 {
				t.Fatalf("%d create requests", len(ours))
			}
			if diff := cmp.Diff(decodeCreate(t, theirs[0]), decodeCreate(t, ours[0]), createOptions...); diff != "" {
				t.Errorf("docker's request (-) differs from kist's (+):\n%s", diff)
			}
			if ours[0].query != theirs[0].query {
				t.Errorf("query %q, docker's is %q", ours[0].query, theirs[0].query)
			}
		})
	}
}

var createOptions = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Addr{}, network.Port{}),
	// docker keeps variables, binds and labels in a map, in no order.
	cmpopts.SortSlices(strings.Compare),
	// Removed from the API since; the endpoint has it.
	cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "HostConfig.ConsoleSize" }, cmp.Ignore()),
}

func decodeCreate(t *testing.T, r recorded) container.CreateRequest {
	t.Helper()
	var c container.CreateRequest
	if err := json.Unmarshal(r.body, &c); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return c
}
