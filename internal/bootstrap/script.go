package bootstrap

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kistdev/kist/internal/debian"
)

// script is what the container runs: preinst scripts that do something, and dpkg to configure what is unpacked.
//
// Packages whose preinst has run, and those without one, may be configured. What is essential comes first, for all other
// packages rely on it without saying so; within it, what debootstrap has found to be needed before the rest.
type script struct {
	strings.Builder
	by      map[string]*unpacked
	set     *debian.Set
	preinst map[string]bool // run, or nothing to run
	ready   map[string]bool // configured
	visited map[string]bool
}

// core are packages that the scripts of others need, though these do not depend on them; in this order.
var core = []string{"base-passwd", "base-files", "mawk", "gawk", "original-awk", "libc6", "libc6.1", "perl-base", "debconf", "dpkg"}

const prologue = `set -e
umask 022
cd /
preinst() {
	DPKG_MAINTSCRIPT_PACKAGE=$2 DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_MAINTSCRIPT_ARCH=$3 DPKG_MAINTSCRIPT_NAME=preinst \
	DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg DPKG_FORCE=unsafe-io,confold DPKG_RUNNING_VERSION=$4 \
	"/var/lib/dpkg/info/$1.preinst" install </dev/null || { echo "the preinst script of $2 failed" >&2; exit 1; }
}
configure() {
	dpkg --status-fd 3 --force-unsafe-io --force-confold "$@" </dev/null 3>&1
}
ldconfig
`

func newScript(all []*unpacked) *script {
	s := &script{by: map[string]*unpacked{}, preinst: map[string]bool{}, ready: map[string]bool{}, visited: map[string]bool{}}
	list := make([]*debian.Package, len(all))
	for i, p := range all {
		s.by[p.pkg.Name] = p
		list[i] = p.pkg
	}
	s.set = debian.NewSet(list)
	return s
}

// write puts the script together.
func (s *script) write(all []*unpacked) string {
	s.WriteString(prologue)
	essential := s.closure(all, isEssential)
	s.runPreinsts(first(essential, "base-passwd"))
	var early []string
	for _, name := range core {
		if p := s.by[name]; p != nil && !p.careful && slices.Contains(essential, p) {
			early = append(early, name)
			s.ready[name] = true
		}
	}
	if len(early) > 0 {
		fmt.Fprintf(s, "configure --force-depends --configure %s\n", strings.Join(early, " "))
	}
	var rest []*unpacked
	for _, p := range all {
		if !s.preinst[p.pkg.Name] && (p.effective() || p.careful) {
			rest = append(rest, p)
		}
	}
	if len(rest) > 0 {
		s.configure(essential)
		for _, p := range rest {
			s.visit(p)
		}
	}
	s.WriteString("configure --configure -a\n")
	return s.String()
}

func isEssential(p *debian.Package) bool { return p.Essential }

func first(list []*unpacked, name string) []*unpacked {
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b *unpacked) int {
		switch name {
		case a.pkg.Name:
			return -1
		case b.pkg.Name:
			return 1
		}
		return 0
	})
	return out
}

// closure are the packages that fit, and what they depend on, in the order of all.
func (s *script) closure(all []*unpacked, fit func(*debian.Package) bool) []*unpacked {
	in := s.set.Closure(fit)
	var list []*unpacked
	for _, p := range all {
		if in[p.pkg] {
			list = append(list, p)
		}
	}
	return list
}

// runPreinsts runs the scripts of packages that have one.
func (s *script) runPreinsts(list []*unpacked) {
	for _, p := range list {
		if s.preinst[p.pkg.Name] || p.careful {
			continue
		}
		s.preinst[p.pkg.Name] = true
		if p.effective() {
			fmt.Fprintf(s, "preinst %s %s %s %s\n", p.infoName(), p.pkg.Name, p.pkg.Arch, quote(s.dpkgVersion()))
		}
	}
}

func (s *script) dpkgVersion() string {
	if p := s.by["dpkg"]; p != nil {
		v := p.pkg.Version
		if i := strings.LastIndexByte(v, '-'); i > 0 {
			v = v[:i]
		}
		return v
	}
	return ""
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// configure configures packages, if they are not yet.
func (s *script) configure(list []*unpacked) {
	var names []string
	for _, p := range list {
		if !s.ready[p.pkg.Name] && !p.careful {
			s.ready[p.pkg.Name] = true
			names = append(names, p.pkg.Name)
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(s, "configure --configure %s\n", strings.Join(names, " "))
	}
}

// visit runs a package's preinst once what it pre-depends on is configured. Packages that divert files are unpacked by dpkg.
func (s *script) visit(p *unpacked) {
	if s.visited[p.pkg.Name] || s.preinst[p.pkg.Name] {
		return
	}
	s.visited[p.pkg.Name] = true
	var need []*debian.Package
	for _, group := range p.pkg.PreDepends {
		if q := s.set.Find(group); q != nil && q != p.pkg {
			need = append(need, q)
		}
	}
	if len(need) > 0 {
		all := s.closure(s.sorted(), func(q *debian.Package) bool { return slices.Contains(need, q) })
		all = slices.DeleteFunc(all, func(q *unpacked) bool { return q == p })
		for _, q := range all {
			if q.careful || q.effective() {
				s.visit(q)
			}
		}
		s.runPreinsts(all)
		s.configure(all)
	}
	if p.careful {
		fmt.Fprintf(s, "configure --unpack %s\n", debPlace(p))
		s.preinst[p.pkg.Name] = true
		return
	}
	s.runPreinsts([]*unpacked{p})
}

// sorted are all packages by their names.
func (s *script) sorted() []*unpacked {
	list := make([]*unpacked, 0, len(s.by))
	for _, p := range s.by {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *unpacked) int { return strings.Compare(a.pkg.Name, b.pkg.Name) })
	return list
}

// debPlace is where the file of a package lies that dpkg unpacks itself.
func debPlace(p *unpacked) string { return "/" + debDir + "/" + p.pkg.Name + ".deb" }

const debDir = "var/cache/apt/archives/partial"

// effective says whether the package's preinst can do anything at all on a system without an earlier version: calls of
// dpkg-maintscript-helper cannot, and they are what most of these scripts consist of.
func (p *unpacked) effective() bool {
	text := string(p.files["preinst"].data)
	if text == "" {
		return false
	}
	head, rest, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(head, "#!") || !strings.HasSuffix(strings.Fields(head + " x")[0], "sh") {
		return true
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line == "set -e" || line == "set -eu" || line == "exit 0" {
			continue
		}
		call, helper := strings.CutSuffix(line, ` -- "$@"`)
		if !helper || !strings.HasPrefix(call, "dpkg-maintscript-helper ") || strings.ContainsAny(call, ";|&`$(<>") {
			return true
		}
	}
	return false
}
