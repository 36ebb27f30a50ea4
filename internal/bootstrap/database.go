package bootstrap

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/sys"
)

// database is dpkg's own: what it would have written, had it unpacked the packages itself.
type database struct {
	root *sys.Root
	t    *tree
}

const admin = "var/lib/dpkg"

// write writes the database: packages that dpkg unpacks itself are not in it.
func (d *database) write(all []*unpacked) error {
	for _, dir := range []string{"/info", "/updates", "/triggers", "/alternatives", "/parts"} {
		f, err := d.root.MkdirAll(admin+dir, 0o755)
		if err != nil {
			return err
		}
		_ = f.Close() // it was only opened
	}
	var status bytes.Buffer
	t := triggers{files: map[string][]string{}}
	for _, p := range all {
		if p.careful {
			continue
		}
		p.yield(d.t)
		if err := d.info(p); err != nil {
			return fmt.Errorf("%s: %w", p.pkg.Name, err)
		}
		if err := p.status().Write(&status); err != nil {
			return err
		}
		t.add(p)
	}
	if err := d.file("status", status.Bytes(), 0o644); err != nil {
		return err
	}
	if err := t.write(d); err != nil {
		return err
	}
	for name, mode := range map[string]uint32{"available": 0o644, "triggers/Lock": 0o600, "lock": 0o640, "lock-frontend": 0o640} {
		if err := d.file(name, nil, mode); err != nil {
			return err
		}
	}
	return d.file("info/format", []byte("1\n"), 0o644)
}

// file writes a file below the database's directory.
func (d *database) file(name string, data []byte, mode uint32) error {
	return writeFile(d.root, admin+"/"+name, data, mode)
}

// writeFile writes a small file in place of what is there.
func writeFile(root *sys.Root, name string, data []byte, mode uint32) error {
	dir, base, err := root.Parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	parent := int(dir.Fd())
	fd := -1
	err = over(parent, base, func() (err error) {
		fd, err = unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	defer unix.Close(fd)
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
		data = data[n:]
	}
	return unix.Fchmod(fd, mode)
}

// infoName is how dpkg calls the files of a package: with its architecture if it may be installed for several.
func (p *unpacked) infoName() string {
	if p.pkg.MultiArch == "same" {
		return p.pkg.Name + ":" + p.pkg.Arch
	}
	return p.pkg.Name
}

// yield takes what has become another package's out of what is known of this one: whether it was unpacked before, or not at
// all, must make no difference.
func (p *unpacked) yield(t *tree) {
	p.list = slices.DeleteFunc(p.list, func(l listed) bool {
		if l.dir || t.owns(l.place, p) {
			return false
		}
		delete(p.sums, l.name[1:])
		delete(p.conffiles, l.name[1:])
		return true
	})
}

// info writes the package's control files and its list.
func (d *database) info(p *unpacked) error {
	name := "info/" + p.infoName() + "."
	for _, key := range slices.Sorted(maps.Keys(p.files)) {
		f := p.files[key]
		if err := d.file(name+key, f.data, f.mode&0o755|0o644); err != nil {
			return err
		}
	}
	var list, sums bytes.Buffer
	for _, l := range p.list {
		list.WriteString(l.name + "\n")
		if sum := p.sums[strings.TrimPrefix(l.name, "/")]; sum != "" {
			sums.WriteString(sum + "  " + l.name[1:] + "\n")
		}
	}
	if p.sums != nil && sums.Len() > 0 {
		if err := d.file(name+"md5sums", sums.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return d.file(name+"list", list.Bytes(), 0o644)
}

// status is the package's paragraph in dpkg's status file.
func (p *unpacked) status() debian.Paragraph {
	var out debian.Paragraph
	for _, f := range p.control {
		switch strings.ToLower(f.Name) {
		case "status", "conffiles", "config-version":
			continue // not for a package to say
		case "priority":
			f.Value = cmp.Or(p.pkg.PriorityName, f.Value)
		case "section":
			f.Value = cmp.Or(p.pkg.Section, f.Value)
		}
		out = append(out, f)
		if strings.EqualFold(f.Name, "Package") {
			out = append(out, debian.Field{Name: "Status", Value: "install ok unpacked"})
		}
	}
	var conf strings.Builder
	for _, name := range p.order {
		if sum := p.conffiles[name]; sum != "" {
			fmt.Fprintf(&conf, "\n /%s %s", name, sum)
		}
	}
	if conf.Len() > 0 {
		out = append(out, debian.Field{Name: "Conffiles", Value: conf.String()})
	}
	return out
}

// triggers are who wants to know of what.
type triggers struct {
	paths []string // lines of the file of paths
	files map[string][]string
}

// add takes what a package is interested in.
func (t *triggers) add(p *unpacked) {
	for line := range strings.Lines(string(p.files["triggers"].data)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) != 2 || !strings.HasPrefix(words[0], "interest") {
			continue
		}
		who := p.pkg.Name
		if p.pkg.MultiArch == "same" {
			who += ":" + p.pkg.Arch
		}
		if words[0] == "interest-noawait" {
			who += "/noawait"
		}
		switch name := words[1]; {
		case strings.HasPrefix(name, "/"):
			t.paths = append(t.paths, name+" "+who)
		case name != "" && !strings.ContainsAny(name, "/") && name[0] != '.' && name != "File" && name != "Unincorp" && name != "Lock":
			t.files[name] = append(t.files[name], who)
		}
	}
}

func (t *triggers) write(d *database) error {
	if len(t.paths) > 0 {
		if err := d.file("triggers/File", []byte(strings.Join(t.paths, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		if err := d.file("triggers/"+name, []byte(strings.Join(t.files[name], "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	return d.file("triggers/Unincorp", nil, 0o644)
}
