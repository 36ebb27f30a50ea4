package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestOtherKernel runs kist on another, older kernel, with version 2 of cgroups and all its controllers and nothing else, and
// with project quotas: what a container may use is limited, read, changed and enforced there.
func TestOtherKernel(t *testing.T) {
	needBin(t)
	disk := filepath.Join(t.TempDir(), "disk")
	for _, args := range [][]string{{"truncate", "-s", "200M", disk}, {"mkfs.ext4", "-q", "-O", "project,quota", disk}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("skip: no file system with quotas: %v: %v: %s", args, err, out)
		}
	}
	m := testbed.Machine{Disk: disk, Modules: []string{"overlay", "veth", "bridge", "quota_v2"}}
	out := m.Run(t, "archive="+testbed.Busybox.MustArchive(t)+"\n"+otherKernel)
	printed(t, out, map[string]string{
		"rules": "no tables of the family inet", "version": "2", "hello": "hello", "memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "50",
		"updated": "83886080", "frozen": "paused 1", "thawed": "running 0", "forks": "refused", "oom": "137 true", "why": "out of memory",
		"device": "ok", "other device": "refused", "stats": "1 80MiB", "built": "built", "full": "refused", "quota": "kept", "gone": "",
	})
}

// printed compares what a machine's script has printed, lines of name=value, with what it should have.
func printed(t *testing.T, out string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			got[k] = v
		}
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// otherKernel prints what it finds as name=value.
const otherKernel = `
mount -o prjquota /dev/ubda /mnt
export KIST_DATA_ROOT=/mnt/data KIST_EXEC_ROOT=/run/kist image=kist.test/busybox
echo "rules=$(kistd 2>&1 | grep -o 'no tables of the family inet' | head -1)"
kistd --bridge=none >/run/kistd.log 2>&1 &
daemon=$!
n=0
until kist --no-autostart version >/dev/null 2>&1; do
  n=$((n + 1))
  kill -0 $daemon && [ $n -lt 600 ] || { cat /run/kistd.log; exit 1; }
  sleep 0.1
done
kist load -q -i $archive >/dev/null
echo "version=$(kist info -f '{{.CgroupVersion}}')"
echo "hello=$(kist run --rm --network none $image echo hello)"
kist run -d --name box --network none -m 64m --cpus 0.5 --pids-limit 50 $image sleep 1000 >/dev/null
for f in memory.max cpu.max pids.max; do echo "$f=$(kist exec box cat /sys/fs/cgroup/$f)"; done
kist update -m 80m box >/dev/null
echo "updated=$(kist exec box cat /sys/fs/cgroup/memory.max)"
echo "stats=$(kist stats --no-stream --format '{{.PIDs}} {{.MemUsage}}' box | sed 's| .*/||')"
group=$(find /sys/fs/cgroup -name "$(kist inspect -f '{{.Id}}' box)*" -type d | head -1)
kist pause box >/dev/null
echo "frozen=$(kist inspect -f '{{.State.Status}}' box) $(sed -n 's/frozen //p' $group/cgroup.events)"
kist unpause box >/dev/null
echo "thawed=$(kist inspect -f '{{.State.Status}}' box) $(sed -n 's/frozen //p' $group/cgroup.events)"
echo "forks=$(kist exec box sh -c 'for i in $(seq 60); do sleep 5 & done' >/dev/null 2>&1 && echo allowed || echo refused)"
kist rm -f box >/dev/null
set +e
kist run --name big --network none -m 20m $image sh -c 'x=$(head -c 60000000 /dev/zero | tr "\\0" a); echo ${#x}' >/dev/null 2>&1
echo "oom=$? $(kist inspect -f '{{.State.OOMKilled}}' big)"
echo "why=$(kist inspect big | grep -o 'out of memory' | head -1)"
set -e
kist rm big >/dev/null
echo "device=$(kist run --rm --network none --device /dev/zero:/dev/mine $image sh -c 'head -c1 /dev/mine >/dev/null && echo ok')"
echo "other device=$(kist run --rm --network none $image sh -c 'mknod /tmp/d b 98 0 && head -c1 /tmp/d >/dev/null 2>&1 && echo read || echo refused')"
mkdir /run/context
printf 'FROM %s\nRUN echo built >/made\n' $image >/run/context/Dockerfile
kist build -q --network none -t made /run/context >/dev/null
echo "built=$(kist run --rm --network none made cat /made)"
kist volume create --opt size=10m small >/dev/null
echo "full=$(kist run --rm --network none -v small:/data $image sh -c 'dd if=/dev/zero of=/data/x bs=1M count=20 2>/dev/null && echo written || echo refused')"
used=$(kist run --rm --network none -v small:/data $image du -k /data/x | cut -f1)
echo "quota=$([ $used -gt 9000 ] && [ $used -le 10240 ] && echo kept || echo $used)"
kist volume rm small >/dev/null
echo "gone=$(find /sys/fs/cgroup -path '*kist*' -mindepth 2 -type d)"
kill $daemon
wait $daemon || true
umount /mnt
`
