package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Emulated is a machine of another architecture, arm64, that qemu emulates: it boots Debian's kernel for that, and has a
// busybox, kist's programs and nothing else, all in memory.
type Emulated struct {
	// Programs are files that lie in its PATH.
	Programs []string
}

// Run boots the machine, runs a shell script as root in it, and returns what that printed. A script that does not come to
// its end fails the test.
func (e Emulated) Run(t testing.TB, script string) string {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-aarch64")
	if err != nil {
		t.Skip("skip: no emulator of arm64 is installed (Debian's package qemu-system-arm)")
	}
	base, err := arm64Base(t.Context())
	if err != nil {
		t.Skipf("skip: no kernel for arm64: %v", err)
	}
	disk, err := e.initramfs(base, t.TempDir(), script)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-M", "virt", "-cpu", "cortex-a57", "-smp", "2", "-m", "1G", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", filepath.Join(base, "kernel"), "-initrd", disk, "-append", "console=ttyAMA0 quiet loglevel=1 rdinit=/init panic=-1")
	cmd.WaitDelay = time.Second
	raw, err := cmd.CombinedOutput()
	return scriptOutput(t, raw, err)
}

// initramfs is the base's with the programs and the script: the kernel unpacks archives that stand one behind another.
func (e Emulated) initramfs(base, dir, script string) (string, error) {
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "kist"), 0o755); err != nil {
		return "", err
	}
	for _, p := range e.Programs {
		if err := copyFile(p, filepath.Join(root, "kist", filepath.Base(p))); err != nil {
			return "", err
		}
		if err := os.Chmod(filepath.Join(root, "kist", filepath.Base(p)), 0o755); err != nil {
			return "", err
		}
	}
	script = "set -e\n" + script + "\necho '" + machineDone + "'\n"
	if err := os.WriteFile(filepath.Join(root, "script"), []byte(script), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(emulatedInit), 0o755); err != nil { //nolint:gosec // It is run.
		return "", err
	}
	first, err := os.ReadFile(filepath.Join(base, "base.cpio"))
	if err != nil {
		return "", err
	}
	var errs bytes.Buffer
	cmd := exec.Command("sh", "-c", "find . | busybox cpio -o -H newc")
	cmd.Dir, cmd.Stderr = root, &errs
	second, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, errs.String())
	}
	file := filepath.Join(dir, "initramfs")
	return file, os.WriteFile(file, append(first, second...), 0o600)
}

// emulatedInit leaves the kernel's first file system, which cannot hold containers, for another one in memory.
const emulatedInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/kist:/bin HOME=/root
mount -t proc proc /proc
modprobe -a $(cat /lib/modules/wanted)
mount -t tmpfs tmpfs /new
cp -a /bin /kist /etc /script /new/
mkdir /new/proc /new/sys /new/dev /new/tmp /new/run /new/root /new/var
cat >/new/start <<'END'
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
sh /script 2>&1
poweroff -f
END
umount /proc
exec switch_root /new /bin/busybox sh /start
`

// arm64Base has the kernel, and the archive that its memory begins with, from this machine's Debian mirror.
func arm64Base(ctx context.Context) (string, error) {
	suite, mirror := aptSource()
	if mirror == "" {
		return "", errors.New("apt's configuration names no Debian mirror")
	}
	return made(ctx, "arm64-"+suite, func(dir string) error {
		return command(ctx, "bash", "-c", fetchArm64, "bash", dir, mirror, suite)
	})
}

// fetchArm64 has apt fetch and verify two packages of the other architecture, with lists of its own.
const fetchArm64 = `set -eu
dir=$1 work=$1/work
mkdir -p $work/state/lists/partial $work/cache/archives/partial $work/x $work/root/bin $work/root/lib/modules $work/root/etc
echo "deb $2 $3 main" >$work/sources.list
options="-o Dir::State=$work/state -o Dir::State::status=/dev/null -o Dir::Cache=$work/cache -o Dir::Etc::sourcelist=$work/sources.list
	-o Dir::Etc::sourceparts=- -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root"
cd $work
apt-get $options -qq update
kernel=$(apt-cache $options show linux-image-cloud-arm64 | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -1)
apt-get $options -qq download $kernel busybox-static
for p in *.deb; do dpkg-deb -x $p x; done
cp x/boot/vmlinuz-* $dir/kernel
cp x/bin/busybox root/bin/ 2>/dev/null || cp x/usr/bin/busybox root/bin/
mv x/lib/modules/* root/lib/modules/ 2>/dev/null || mv x/usr/lib/modules/* root/lib/modules/
version=$(ls root/lib/modules)
wanted="overlay veth bridge br_netfilter nf_tables nft_chain_nat nft_ct nft_masq nft_redir nft_nat nft_fib_inet nft_reject_inet nft_limit nft_numgen nft_hash nft_objref nft_socket nft_tproxy tun"
busybox depmod -b root $version
find root/lib/modules/$version/kernel -name '*.ko*' | sed 's|.*/||; s|\.ko.*||; s|-|_|g' | sort >all
for m in $wanted; do grep -x $m all; done >root/lib/modules/wanted
# Of thousands of modules only those: the rest would be memory of the machine's.
keep=$(for m in $(cat root/lib/modules/wanted); do sed -n "s|^kernel/\(.*/\)*$(echo $m | sed 's/_/[-_]/g')\.ko[^:]*:|&|p" root/lib/modules/$version/modules.dep; done | tr -d : | tr ' ' '\n' | sort -u)
mkdir kept
for k in $keep; do cp root/lib/modules/$version/$k kept/; done
for k in kept/*.xz; do [ ! -e "$k" ] || xz -d "$k"; done
rm -rf root/lib/modules/$version
mkdir root/lib/modules/$version root/new root/proc
mv kept root/lib/modules/$version/kernel
busybox depmod -b root $version
echo 'root:x:0:0:root:/root:/bin/sh' >root/etc/passwd
echo 'root:x:0:' >root/etc/group
echo 'nameserver 127.0.0.1' >root/etc/resolv.conf
(cd root && find . | busybox cpio -o -H newc) >$dir/base.cpio
rm -rf $work
`
