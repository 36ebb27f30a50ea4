package bootstrap

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/typo"
)

// target is what is wanted.
type target struct {
	distro   *distro
	suite    string
	tag      string
	variant  debian.Variant
	platform ocispec.Platform
}

// distro is a distribution: what holds where neither the user nor apt says anything else.
type distro struct {
	name string
	// mirror of the distribution; ports for architectures that it does not have; security for its security updates.
	mirror, ports, security string
	// keyring is the file with its keys, and keyringPackage Debian's package that has the file.
	keyring, keyringPackage string
	// suites are those that exist, the newest first, to tell a person what may be meant.
	suites []string
	// updates says that there are SUITE-updates and SUITE-security.
	updates bool
}

var distros = []*distro{
	{
		name: "debian", mirror: "http://ftp.debian.org/debian", security: "http://security.debian.org/debian-security",
		keyring: "debian-archive-keyring.gpg", keyringPackage: "debian-archive-keyring", updates: true,
		suites: []string{"sid", "forky", "trixie", "bookworm", "bullseye", "unstable", "testing", "stable", "oldstable"},
	},
	{
		name: "ubuntu", mirror: "http://archive.ubuntu.com/ubuntu", ports: "http://ports.ubuntu.com/ubuntu-ports",
		keyring: "ubuntu-archive-keyring.gpg", keyringPackage: "ubuntu-archive-keyring", updates: true,
		suites: []string{"resolute", "questing", "plucky", "noble", "jammy", "focal"},
	},
	{
		name: "kali", mirror: "http://http.kali.org/kali", keyring: "kali-archive-keyring.gpg",
		suites: []string{"kali-rolling", "kali-last-snapshot"},
	},
	{
		name: "devuan", mirror: "http://deb.devuan.org/merged", keyring: "devuan-archive-keyring.gpg",
		suites: []string{"ceres", "excalibur", "daedalus"}, updates: true,
	},
}

// architectures are Debian's names of Go's and the OCI's.
var architectures = map[string]ocispec.Platform{
	"amd64": {Architecture: "amd64"}, "i386": {Architecture: "386"}, "arm64": {Architecture: "arm64"},
	"armhf": {Architecture: "arm", Variant: "v7"}, "armel": {Architecture: "arm", Variant: "v5"},
	"ppc64el": {Architecture: "ppc64le"}, "riscv64": {Architecture: "riscv64"}, "s390x": {Architecture: "s390x"},
	"loong64": {Architecture: "loong64"}, "mips64el": {Architecture: "mips64le"},
}

// nativeArch is this machine's architecture as Debian calls it.
func nativeArch() string {
	for name, p := range architectures {
		if p.Architecture == runtime.GOARCH && p.Variant != "v5" {
			return name
		}
	}
	return runtime.GOARCH
}

func invalid(what, cause, try string) error {
	return &fault.Error{Code: "bootstrap-invalid", What: what, Cause: cause, Try: try, Class: errdefs.ErrInvalidArgument}
}

// check reads the request.
func (j *job) check() error {
	r := &j.req
	name, suite, ok := strings.Cut(r.Suite, ":")
	if !ok {
		name, suite = ofSuite(r.Suite), r.Suite
	}
	for _, d := range distros {
		if d.name == name {
			j.target.distro = d
		}
	}
	if j.target.distro == nil {
		j.target.distro = &distro{name: name}
		if len(r.Mirrors) == 0 {
			return invalid("unknown distribution "+name, "those that are known are "+distroNames(), "--mirror with the address of its archive, and --keyring with its keys")
		}
	}
	if !goodSuite(suite) {
		return invalid("bad suite "+fmt.Sprintf("%q", suite), "a suite is a word such as bookworm", "kist image bootstrap debian:bookworm")
	}
	j.target.suite = suite
	if j.target.tag = r.Tag; j.target.tag == "" {
		j.target.tag = name + ":" + strings.ReplaceAll(suite, "/", "-")
	}
	return j.checkRest()
}

func (j *job) checkRest() error {
	r := &j.req
	j.target.variant = debian.Variant(r.Variant)
	if r.Variant == "" {
		j.target.variant = debian.Minbase
	}
	if r.Variant == "-" { // as debootstrap calls it
		j.target.variant = debian.Full
	}
	if !slices.Contains(debian.Variants, j.target.variant) {
		return invalid("unknown variant "+r.Variant, fmt.Sprintf("there are %v", debian.Variants), "--variant minbase")
	}
	if j.arch = r.Arch; j.arch == "" {
		j.arch = nativeArch()
	}
	p, ok := architectures[j.arch]
	if !ok {
		for deb, other := range architectures { // a user of images knows the other names
			if o := platforms.Format(ocispec.Platform{OS: "linux", Architecture: other.Architecture}); r.Arch == other.Architecture || r.Arch == o {
				j.arch, p, ok = deb, other, true
			}
		}
	}
	if !ok || !debian.GoodArch(j.arch) {
		return invalid("unknown architecture "+r.Arch, "Debian's names are used", "--arch arm64")
	}
	p.OS = "linux"
	j.target.platform = platforms.Normalize(p)
	if runstep.Emulated(j.target.platform) && !r.List {
		if err := j.emulator(); err != nil {
			return err
		}
		j.note("%s runs under an emulator on this machine: configuring the packages takes many times longer", j.arch)
	}
	if r.Epoch != nil {
		j.epoch = time.Unix(*r.Epoch, 0).UTC()
	}
	return nil
}

// emulator refuses an architecture whose scripts cannot be run here, before anything is fetched.
func (j *job) emulator() error {
	for _, p := range runstep.Platforms() {
		if platforms.Normalize(p).Architecture == j.target.platform.Architecture {
			return nil
		}
	}
	return &fault.Error{
		Code: "platform-foreign", What: "cannot configure packages for " + j.arch + ": this machine does not run its programs",
		Cause: "this machine is " + platforms.Format(platforms.DefaultSpec()) + ", and no emulator for " + j.arch + " is registered in /proc/sys/fs/binfmt_misc",
		Try:   "install qemu-user-static (Debian: apt-get install qemu-user-static binfmt-support), or make the image on such a machine", Class: errdefs.ErrFailedPrecondition,
	}
}

func distroNames() string {
	var names []string
	for _, d := range distros {
		names = append(names, d.name)
	}
	return strings.Join(names, ", ")
}

// ofSuite is the distribution that a suite without one belongs to.
func ofSuite(suite string) string {
	for _, d := range distros {
		if slices.Contains(d.suites, suite) {
			return d.name
		}
	}
	return "debian"
}

// goodSuite keeps a suite from being anything but a path below dists.
func goodSuite(s string) bool {
	return s != "" && len(s) < 100 && debian.CleanPath(s) && s[0] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._+/") == ""
}

// nearest are suites that a person may have meant.
func (d *distro) nearest(suite string) []string { return typo.Rank(suite, d.suites, 3) }
