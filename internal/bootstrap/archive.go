package bootstrap

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/fault"
)

// archive is a suite of a mirror.
type archive struct {
	uri        *url.URL
	suite      string
	components []string
	source     debian.Source
	// optional: an archive that is not there is left out.
	optional bool
	release  *debian.Release
	signer   debian.Signer
	// lists are the numbers of its lists in the index.
	lists []int
}

// name is the archive as a person knows it.
func (a *archive) name() string { return a.uri.Redacted() + " " + a.suite }

// at is the address of a file below the mirror.
func (a *archive) at(name string) *url.URL {
	u := *a.uri
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + name
	u.RawPath = ""
	return &u
}

// inSuite is the address of a file below the suite.
func (a *archive) inSuite(name string) *url.URL { return a.at(path.Join("dists", a.suite, name)) }

// plan decides which archives are asked: those that were named, else those that apt here has for the suite, else the
// distribution's own.
func (j *job) plan() error {
	if len(j.req.Mirrors) > 0 {
		for _, m := range j.req.Mirrors {
			if err := j.addMirror(m); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range j.apt.sources {
		j.addSource(&j.apt.sources[i])
	}
	// The suite itself must be there, and comes first.
	slices.SortStableFunc(j.archives, func(a, b *archive) int { return len(a.suite) - len(b.suite) })
	if len(j.archives) > 0 && j.archives[0].suite == j.target.suite {
		return nil
	}
	j.archives = nil
	return j.defaults()
}

// addMirror takes a mirror that was named: an address, or a whole line of sources.list.
func (j *job) addMirror(m string) error {
	s := debian.Source{URIs: []string{m}, Suites: []string{j.target.suite}}
	if strings.ContainsAny(strings.TrimSpace(m), " \t") {
		list, err := debian.ParseSourceList(m)
		if err != nil || len(list) != 1 {
			return invalid("bad mirror "+m, "it is neither an address nor a line of sources.list", "--mirror http://ftp.debian.org/debian")
		}
		s = list[0]
	}
	return j.add(s, s.URIs[0], s.Suites[0], false)
}

// addSource takes a source of apt's, for those of its suites that belong to the one that is wanted.
func (j *job) addSource(s *debian.Source) {
	if len(s.Archs) > 0 && !slices.Contains(s.Archs, j.arch) || s.Flat() || j.distroOf(s) != j.target.distro {
		return
	}
	for _, uri := range s.URIs {
		for _, suite := range s.Suites {
			if j.belongs(suite) {
				_ = j.add(*s, uri, suite, suite != j.target.suite) // what is no address for us is none for apt
			}
		}
	}
}

// belongs says whether a suite is the one that is wanted, or has updates of it.
func (j *job) belongs(suite string) bool {
	own := j.target.suite
	return slices.Contains([]string{own, own + "-updates", own + "-security", own + "/updates"}, suite)
}

// distroOf is the distribution that a source of apt's belongs to, by the keys that it is signed with, or its address.
func (j *job) distroOf(s *debian.Source) *distro {
	for _, d := range distros {
		for _, by := range s.SignedBy {
			if path.Base(by) == d.keyring {
				return d
			}
		}
		for _, uri := range s.URIs {
			if u, err := url.Parse(uri); err == nil && (path.Base(u.Path) == d.name || strings.HasPrefix(path.Base(u.Path), d.name+"-")) {
				return d
			}
		}
	}
	return nil
}

// defaults are the distribution's own archives; where apt here knows the distribution by another suite, its mirrors.
func (j *job) defaults() error {
	d := j.target.distro
	mirror, security := d.mirror, d.security
	if d.ports != "" && !slices.Contains([]string{"amd64", "i386"}, j.arch) {
		mirror = d.ports
	}
	base := debian.Source{}
	for i := range j.apt.sources {
		s := &j.apt.sources[i]
		if j.distroOf(s) != d || len(s.Archs) > 0 && !slices.Contains(s.Archs, j.arch) {
			continue
		}
		if isSecurity := strings.HasSuffix(s.Suites[0], "security"); isSecurity && d.security != "" {
			security = s.URIs[0]
		} else if !isSecurity {
			mirror = s.URIs[0]
		}
		base.NoValidUntil = base.NoValidUntil || s.NoValidUntil
	}
	if security == "" {
		security = mirror
	}
	if err := j.add(base, mirror, j.target.suite, false); err != nil {
		return err
	}
	if d.updates && !slices.Contains([]string{"sid", "unstable", "ceres"}, j.target.suite) {
		if err := j.add(base, mirror, j.target.suite+"-updates", true); err != nil {
			return err
		}
		return j.add(base, security, j.target.suite+"-security", true)
	}
	return nil
}

func (j *job) add(s debian.Source, uri, suite string, optional bool) error {
	u, err := url.Parse(uri)
	if err == nil && u.Scheme == "" && filepath.IsAbs(uri) {
		u = &url.URL{Scheme: "file", Path: uri}
	}
	if err != nil || !slices.Contains([]string{"http", "https", "file", "copy"}, u.Scheme) || u.Scheme[0] == 'h' && u.Host == "" {
		return invalid("bad mirror "+uri, "its address is none of http, https or file", "--mirror http://ftp.debian.org/debian")
	}
	if strings.HasSuffix(suite, "/") {
		return &fault.Error{
			Code: "bootstrap-invalid", What: "cannot use " + uri, Cause: "its lists lie beside its packages, without a suite's directory",
			Class: errdefs.ErrNotImplemented,
		}
	}
	if !goodSuite(suite) {
		return invalid(fmt.Sprintf("bad suite %q", suite), "it is no name of a directory", "")
	}
	components := j.req.Components
	if len(components) == 0 {
		components = s.Components
	}
	if len(components) == 0 {
		components = []string{"main"}
		if j.target.distro.name == "ubuntu" {
			components = append(components, "universe")
		}
	}
	for _, c := range components {
		if !goodSuite(c) {
			return invalid(fmt.Sprintf("bad component %q", c), "a component is a word such as main", "--components main,contrib")
		}
	}
	for _, other := range j.archives {
		if other.uri.String() == u.String() && other.suite == suite {
			for _, c := range components {
				if !slices.Contains(other.components, c) {
					other.components = append(other.components, c)
				}
			}
			return nil
		}
	}
	j.archives = append(j.archives, &archive{uri: u, suite: suite, components: slices.Clone(components), source: s, optional: optional})
	return nil
}
