package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kistdev/kist/internal/debian"
)

// aptHost is what apt on this machine is told: where packages come from, whom to believe, and how to get there.
type aptHost struct {
	root    string
	sources []debian.Source
	conf    debian.AptConf
	auth    debian.Auth
}

// maxConfig bounds a file of apt's configuration.
const maxConfig = 8 << 20

// readApt reads apt's configuration below root. A machine without apt has none. Files that cannot be read, or that apt would
// not like either, are told by notes and passed over.
func readApt(root string, note func(format string, args ...any)) *aptHost {
	a := &aptHost{root: root, conf: debian.AptConf{}}
	each := func(pattern string, fn func(name string, raw []byte) error) {
		names, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are good
		slices.Sort(names)
		for _, name := range names {
			raw, err := readSmall(name)
			if err == nil {
				err = fn(name, raw)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				note("%s is passed over: %v", name, err)
			}
		}
	}
	list := func(name string, raw []byte) error {
		s, err := debian.ParseSourceList(string(raw))
		a.sources = append(a.sources, s...)
		return err
	}
	conf := func(_ string, raw []byte) error { return a.conf.Read(string(raw)) }
	auth := func(_ string, raw []byte) error { a.auth.Read(string(raw)); return nil }
	each("etc/apt/sources.list", list)
	each("etc/apt/sources.list.d/*.list", list)
	each("etc/apt/sources.list.d/*.sources", func(_ string, raw []byte) error {
		s, err := debian.ParseSources(raw)
		a.sources = append(a.sources, s...)
		return err
	})
	each("etc/apt/apt.conf.d/*", func(name string, raw []byte) error {
		if ext := filepath.Ext(name); ext != "" && ext != ".conf" {
			return nil // as apt does
		}
		return conf(name, raw)
	})
	each("etc/apt/apt.conf", conf)
	each("etc/apt/auth.conf", auth)
	each("etc/apt/auth.conf.d/*.conf", auth)
	return a
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxConfig {
		return nil, fmt.Errorf("%s is no file of a sensible size", name)
	}
	return os.ReadFile(name)
}

// off says whether a setting is there and is false.
func (a *aptHost) off(name string) bool {
	return slices.Contains([]string{"false", "no", "0", "off", "disable", "without"}, strings.ToLower(a.conf.Get(name)))
}

// trusted are the keyrings that apt believes for any source, and those of the distribution's packages.
func (a *aptHost) trusted(d *distro) []string {
	var names []string
	for _, pattern := range []string{"etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d/*.gpg", "etc/apt/trusted.gpg.d/*.asc"} {
		found, _ := filepath.Glob(filepath.Join(a.root, pattern)) // the patterns are good
		slices.Sort(found)
		names = append(names, found...)
	}
	if d.keyring != "" {
		for _, dir := range []string{"usr/share/keyrings", "etc/apt/keyrings"} {
			names = append(names, filepath.Join(a.root, dir, d.keyring))
		}
	}
	return names
}

// keyring reads keyring files; those that are missing or empty are passed over.
func keyring(names []string, note func(format string, args ...any)) *debian.Keyring {
	k := new(debian.Keyring)
	for _, name := range names {
		raw, err := readSmall(name)
		if err == nil && len(raw) > 0 {
			err = k.Add(raw)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			note("keyring %s is passed over: %v", name, err)
		}
	}
	return k
}
