package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/kistdev/kist/internal/doctor"
	"github.com/kistdev/kist/internal/testbed"
)

// patient is a host that doctor looks at.
type patient struct {
	*machine
	image string
}

// newPatient makes a host that is well: a name server answers on it.
func newPatient(t *testing.T) *patient {
	p := &patient{newMachine(t), testbed.Busybox.MustArchive(t)}
	p.writableEtc()
	p.host.Run("sh", "-c", "echo nameserver 127.0.0.53 > /etc/resolv.conf")
	p.nameServer("127.0.0.53:53")
	return p
}

// nameServer answers each question with nothing.
func (p *patient) nameServer(address string) {
	var conn net.PacketConn
	err := p.host.Inside(func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		packet := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil {
				continue
			}
			m.Response = true
			if raw, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(raw, from) // Whoever asked may have gone.
			}
		}
	}()
}

// examine runs doctor and returns its report and exit code.
func (p *patient) examine(flags ...string) (*doctor.Report, int) {
	p.t.Helper()
	out, errOut, code := p.kist(append([]string{"doctor", "--json"}, flags...)...)
	r := new(doctor.Report)
	if err := json.Unmarshal([]byte(out), r); err != nil {
		p.t.Fatalf("%v: %s%s", err, out, errOut)
	}
	return r, code
}

// finds checks that the report has a finding, with what mends it, and returns it.
func (p *patient) finds(r *doctor.Report, state doctor.State, area, text string) *doctor.Finding {
	p.t.Helper()
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Area == area && f.State == state && regexp.MustCompile(text).MatchString(f.Name+": "+f.Text) {
			if f.Try == "" && state != doctor.OK {
				p.t.Errorf("%s: nothing mends it", f.Text)
			}
			return f
		}
	}
	p.t.Errorf("no %s of %s says %q:\n%s", state, area, text, said(r))
	return &doctor.Finding{}
}

// said is the report as a person reads it.
func said(r *doctor.Report) string {
	var b strings.Builder
	_ = r.WriteText(&b, false) // into memory
	return b.String()
}

// fails checks that nothing failed but in these areas.
func (p *patient) fails(r *doctor.Report, code int, areas ...string) {
	p.t.Helper()
	want := 0
	if len(areas) > 0 {
		want = 1
	}
	if code != want {
		p.t.Errorf("exit code %d, want %d:\n%s", code, want, said(r))
	}
	for _, f := range r.Findings {
		if f.State == doctor.Fail && !strings.Contains(strings.Join(areas, " "), f.Area) {
			p.t.Errorf("%s: %s: %s fails as well", f.Area, f.Name, f.Text)
		}
	}
}

func (p *patient) begin() {
	p.t.Helper()
	p.daemon = p.host.StartDaemon()
	p.ok("load", "-q", "-i", p.image)
	p.ok("run", "-d", "--name", "web", "-p", "8080:80", bb, "sleep", "1000")
}

// TestDoctor looks at a host that is well, and then at the same one after each of several things went wrong with it.
func TestDoctor(t *testing.T) {
	p := newPatient(t)
	r, code := p.examine()
	p.fails(r, code)
	p.finds(r, doctor.OK, "daemon", "not running")
	p.finds(r, doctor.OK, "kernel", "a container's root can be made in")
	p.finds(r, doctor.OK, "dns", "127.0.0.53: answers; it is on this host's loopback")
	p.begin()
	r, code = p.examine("--deep")
	p.fails(r, code)
	t.Logf("a good host:\n%s", said(r))
	p.finds(r, doctor.OK, "daemon", `process: pid \d+, version .*, answers at`)
	p.finds(r, doctor.OK, "keeper", `holds 1 containers`)
	p.finds(r, doctor.OK, "store", `3 of 3 have the digests`)
	p.finds(r, doctor.OK, "leftovers", `none`)
	t.Run("a name server that is gone", p.noResolver)
	t.Run("forwarding is off", p.noForwarding)
	t.Run("a firewall that drops", p.dropPolicy)
	t.Run("leftovers", p.leftovers)
	t.Run("damaged blobs", p.damagedBlob)
	t.Run("the daemon hangs", p.hangingDaemon)
}

func (p *patient) under(t *testing.T) func() {
	before := p.t
	p.t = t
	return func() { p.t = before }
}

func (p *patient) noResolver(t *testing.T) {
	defer p.under(t)()
	p.host.Run("sh", "-c", "echo '# nobody' > /etc/resolv.conf")
	r, code := p.examine()
	p.fails(r, code, "dns")
	p.finds(r, doctor.Fail, "dns", "names no name server")
	p.host.Run("sh", "-c", "echo nameserver 127.0.0.54 > /etc/resolv.conf")
	r, code = p.examine()
	p.fails(r, code)
	p.finds(r, doctor.Warn, "dns", "127.0.0.54: the name server does not answer: .*refused")
	p.host.Run("sh", "-c", "echo nameserver 127.0.0.53 > /etc/resolv.conf")
}

func (p *patient) noForwarding(t *testing.T) {
	defer p.under(t)()
	p.host.Run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
	r, code := p.examine()
	p.fails(r, code, "forwarding")
	f := p.finds(r, doctor.Fail, "forwarding", "ip_forward is 0")
	p.mend(f)
	r, code = p.examine()
	p.fails(r, code)
}

// mend does what the finding says.
func (p *patient) mend(f *doctor.Finding) {
	p.t.Helper()
	command, _, _ := strings.Cut(f.Try, ", and ")
	p.host.Run("sh", "-c", command)
}

func (p *patient) dropPolicy(t *testing.T) {
	defer p.under(t)()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("skip: nft is not installed")
	}
	p.host.Run("nft", "add table inet mine; add chain inet mine fence { type filter hook forward priority 10; policy drop; }")
	r, code := p.examine()
	p.fails(r, code, "firewall")
	f := p.finds(r, doctor.Fail, "firewall", `the table "inet mine" drops forwarded packets by default \(chain fence\)`)
	p.mend(f)
	r, code = p.examine()
	p.fails(r, code)
	p.host.Run("nft", "delete table inet mine")
}

// leftovers leaves behind what a kill at the wrong moment would: a veth pair, a mount, a cgroup, rules, directories.
func (p *patient) leftovers(t *testing.T) {
	defer p.under(t)()
	gone := strings.Repeat("0123456789abcdef", 4)
	instance := strings.TrimPrefix(p.host.Cgroup(), "/kist-")
	veth := instance + "v" + gone[:8]
	exec := filepath.Dir(p.host.Socket())
	p.host.Run("ip", "link", "add", veth, "type", "veth", "peer", "name", "lost0")
	p.host.Run("sh", "-c", fmt.Sprintf("mkdir -p %[1]s/shm/%[2]s && mount -t tmpfs none %[1]s/shm/%[2]s", exec, gone))
	p.host.Run("nft", "add", "table", "inet", "kist-abcdef")
	group := "/sys/fs/cgroup" + p.host.Cgroup()
	if list, _ := filepath.Glob("/sys/fs/cgroup/memory" + p.host.Cgroup()); len(list) > 0 {
		group = list[0]
	}
	if err := os.MkdirAll(filepath.Join(group, gone), 0o755); err != nil {
		t.Fatal(err)
	}
	home := p.data("containers/" + gone)
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	r, code := p.examine()
	p.fails(r, code)
	p.finds(r, doctor.Warn, "leftovers", "interface "+veth+": the veth pair of a container that is not there")
	p.finds(r, doctor.Warn, "leftovers", "mount: .*/shm/"+gone+" .tmpfs. belongs to the container 0123456789ab, which is not there")
	p.finds(r, doctor.Warn, "leftovers", "firewall table kist-abcdef: rules of another daemon")
	p.finds(r, doctor.Warn, "leftovers", "cgroup: .*"+gone)
	p.finds(r, doctor.Warn, "leftovers", "container directory: "+home)
	r, code = p.examine("--fix")
	p.fails(r, code)
	fixed := 0
	for _, f := range r.Findings {
		if f.Fixed {
			fixed++
		}
		if f.FixError != "" {
			t.Errorf("%s: %s", f.Text, f.FixError)
		}
	}
	if fixed != 4 {
		t.Errorf("%d were cleared away, want 4:\n%s", fixed, said(r))
	}
	if err := os.Remove(home); err != nil {
		t.Fatal(err)
	}
	r, _ = p.examine()
	p.finds(r, doctor.OK, "leftovers", "none")
	if out := p.ok("exec", "web", "echo", "well"); out != "well\n" {
		t.Errorf("the container that runs: %q", out)
	}
}

func (p *patient) damagedBlob(t *testing.T) {
	defer p.under(t)()
	blobs, err := filepath.Glob(p.data("content/blobs/sha256/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal("no blobs", err)
	}
	var manifest, large string
	for _, b := range blobs {
		raw, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw[:min(len(raw), 300)]), `"layers"`) {
			manifest = b
		} else if len(raw) > 100<<10 {
			large = b
		}
	}
	spoil := func(path string, change func([]byte) []byte) (restore func()) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(append([]byte{}, raw...)), 0o644); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.WriteFile(path, raw, 0o644) }
	}
	restore := spoil(large, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	r, code := p.examine("--deep")
	p.fails(r, code, "store")
	f := p.finds(r, doctor.Fail, "store", "blob sha256:"+filepath.Base(large)[:12]+": its content has the digest")
	if !strings.Contains(f.Try, "kist.test/busybox") {
		t.Errorf("which image? %s", f.Try)
	}
	restore()
	if err := os.Rename(manifest, manifest+".away"); err != nil {
		t.Fatal(err)
	}
	r, code = p.examine()
	p.fails(r, code, "store")
	p.finds(r, doctor.Fail, "store", "image kist.test/busybox:latest: its (manifest|configuration) .* is not there")
	if err := os.Rename(manifest+".away", manifest); err != nil {
		t.Fatal(err)
	}
}

func (p *patient) hangingDaemon(t *testing.T) {
	defer p.under(t)()
	p.host.Run("sh", "-c", "kill -STOP $(cat "+filepath.Join(filepath.Dir(p.host.Socket()), "kistd.pid")+")")
	r, code := p.examine()
	p.host.Run("sh", "-c", "kill -CONT $(cat "+filepath.Join(filepath.Dir(p.host.Socket()), "kistd.pid")+")")
	p.fails(r, code, "daemon")
	p.finds(r, doctor.Fail, "daemon", `process: pid \d+ runs but does not answer`)
}

// TestDoctorWithoutDaemon looks at hosts on which none can start.
func TestDoctorWithoutDaemon(t *testing.T) {
	p := newPatient(t)
	p.begin()
	p.daemon.Stop()
	t.Run("configuration", func(t *testing.T) {
		defer p.under(t)()
		p.host.Run("sh", "-c", `mkdir -p /etc/kist && echo '{"data-root": 7}' > /etc/kist/daemon.json`)
		r, code := p.examine()
		p.fails(r, code, "daemon")
		p.finds(r, doctor.Fail, "daemon", `configuration: the key "data-root" .* wrong kind: line 1`)
		p.host.Run("rm", "/etc/kist/daemon.json")
	})
	t.Run("the daemon is away", func(t *testing.T) {
		defer p.under(t)()
		r, code := p.examine()
		p.fails(r, code)
		p.finds(r, doctor.OK, "keeper", "holds 1 containers")
		p.finds(r, doctor.OK, "leftovers", "none")
	})
	t.Run("damaged rows", func(t *testing.T) {
		defer p.under(t)()
		raw, err := os.ReadFile(p.data("kist.db"))
		if err != nil {
			t.Fatal(err)
		}
		bad := append([]byte{}, raw...)
		for i := range bad[:8192] {
			bad[i] = 0xff
		}
		if err := os.WriteFile(p.data("kist.db"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, code := p.examine()
		p.fails(r, code, "store")
		p.finds(r, doctor.Fail, "store", "rows: .*kist.db")
		if err := os.WriteFile(p.data("kist.db"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a full disk", func(t *testing.T) {
		defer p.under(t)()
		at := filepath.Join(p.host.Dir, "small")
		p.host.Run("sh", "-c", "mkdir "+at+" && mount -t tmpfs -o size=1m none "+at+" && head -c 2m /dev/zero > "+at+"/ballast || true")
		cmd := p.host.Command("kist", "doctor", "--json")
		cmd.Env = append(cmd.Env, "KIST_DATA_ROOT="+at+"/data", "KIST_EXEC_ROOT="+at+"/run")
		out, _ := cmd.Output() // Its exit code is what counts.
		r := new(doctor.Report)
		if err := json.Unmarshal(out, r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		p.fails(r, cmd.ProcessState.ExitCode(), "disk", "kernel")
		p.finds(r, doctor.Fail, "disk", "data root: .* 0B free of 1MiB.*full")
	})
}
