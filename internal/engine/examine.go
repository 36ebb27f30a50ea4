package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/typo"
)

// finding is what the container's filesystem tells about a program that could not be executed.
type finding struct {
	code, cause, try string
	// directory: the program is one, for which the kernel has no error of its own.
	directory bool
}

// examine looks at the file, inside the container's root.
func (e *Engine) examine(d *definition, x *task.ExecError) finding {
	root, err := e.cfg.Layers.OpenView(d.ID)
	if err != nil {
		return finding{} // The error stands as it is.
	}
	t := &tree{root: root, d: d}
	defer t.close()
	if x.Step == "chdir" {
		return examineDir(t, x)
	}
	return examineProgram(t, x)
}

// tree is what is looked at: the container's root with what is mounted over it.
type tree struct {
	root   *sys.Root
	d      *definition
	opened []*sys.Root
}

func (t *tree) close() {
	for _, r := range append(t.opened, t.root) {
		_ = r.Close()
	}
}

// at gives where the file is to be looked at, and the mount that it is in, if it is in one.
func (t *tree) at(file string) (*sys.Root, string, *mountPoint) {
	m, rest := t.d.mountAt(trueName(t.root, file))
	if m == nil {
		return t.root, file, nil
	}
	root, name, err := m.open(rest)
	if err != nil {
		return t.root, file, nil
	}
	t.opened = append(t.opened, root)
	return root, name, m
}

func (t *tree) stat(file string) (unix.Stat_t, error) {
	root, name, _ := t.at(file)
	return root.Stat(name)
}

func (t *tree) has(file string) bool {
	_, err := t.stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// lacks says where a file is not.
func (t *tree) lacks(file string) string {
	if _, _, m := t.at(file); m != nil && m.Source != "" {
		return fmt.Sprintf("%s is not in %s, which is mounted at %s", file, m.Source, m.Target)
	}
	return file + " is not in this image"
}

func examineDir(t *tree, x *task.ExecError) finding {
	st, err := t.stat(x.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{code: "exec-no-directory", cause: "the working directory " + t.lacks(x.Path), try: "-w DIRECTORY with one that is there"}
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return finding{code: "exec-no-directory", cause: fmt.Sprintf("the working directory %s is a file", x.Path), try: "-w DIRECTORY"}
	}
	return finding{}
}

func examineProgram(t *tree, x *task.ExecError) finding {
	switch {
	case x.Errno == syscall.E2BIG:
		return tooLong(t.d)
	case x.Path == "":
		return finding{code: "exec-not-found", cause: "the program's name is empty", try: "name a program: kist run IMAGE PROGRAM"}
	case !strings.Contains(x.Path, "/"):
		return missing(t, x.Path)
	}
	file := x.Path
	if !path.IsAbs(file) {
		file = path.Join("/", t.d.Config.WorkingDir, file)
	}
	st, err := t.stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(t, file)
	case errors.Is(err, unix.ENOTDIR):
		return finding{code: "exec-not-found", cause: "a part of " + path.Dir(file) + " is a file, no directory", try: "check the path"}
	case err != nil:
		return finding{}
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return finding{code: "exec-is-directory", cause: file + " is a directory", try: "name a program in it", directory: true}
	case x.Errno == syscall.EACCES && st.Mode&0o111 == 0:
		return finding{
			code: "exec-not-executable", cause: fmt.Sprintf("%s is not executable, its mode is %04o", file, st.Mode&0o7777),
			try: "chmod +x " + path.Base(file) + " before the image is built",
		}
	case x.Errno == syscall.EACCES:
		return finding{
			code: "exec-permission", cause: fmt.Sprintf("the user may not execute %s (mode %04o, owner %d:%d), or not enter its directory, or it lies on a mount with noexec",
				file, st.Mode&0o7777, st.Uid, st.Gid),
			try: "--user root, or chmod +rx in the image",
		}
	}
	return examineContent(t, file, x.Errno)
}

// examineContent reads the first line, or the ELF header.
func examineContent(t *tree, file string, errno syscall.Errno) finding {
	root, name, _ := t.at(file)
	f, err := root.OpenRegular(name)
	if err != nil {
		return finding{}
	}
	defer func() { _ = f.Close() }()
	p, err := readELF(f)
	if err == nil {
		return examineELF(t, file, p, errno)
	}
	head := make([]byte, 256)
	n, _ := io.ReadFull(f, head)
	return examineScript(t, file, head[:n], errno)
}

func examineELF(t *tree, file string, p program, errno syscall.Errno) finding {
	arch := architectures[p.machine]
	switch {
	case errno == syscall.ENOEXEC && arch != "" && arch != runtime.GOARCH:
		what := file
		if t.d.Arch == arch {
			what = "the image"
		}
		return finding{
			code: "exec-wrong-architecture", cause: fmt.Sprintf("%s is %s, this host is %s", what, arch, runtime.GOARCH),
			try: "an image for linux/" + runtime.GOARCH + " (--platform)",
		}
	case errno == syscall.ENOENT && p.loader != "":
		if !t.has(p.loader) {
			return finding{
				code: "exec-no-loader", cause: fmt.Sprintf("%s needs the loader %s, which is not in this image", file, p.loader),
				try: "a static build, or a base image with the C library that the program was built for",
			}
		}
	case errno == syscall.ENOEXEC:
		return finding{code: "exec-format", cause: file + " is damaged, or no program for this machine (" + p.machine.String() + ")", try: "build or pull the image again"}
	}
	return finding{}
}

func examineScript(t *tree, file string, head []byte, errno syscall.Errno) finding {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	rest, script := bytes.CutPrefix(line, []byte("#!"))
	switch {
	case len(head) == 0:
		return finding{code: "exec-format", cause: file + " is empty", try: "copy the right file into the image"}
	case !script:
		return finding{
			code: "exec-format", cause: file + " has no #! line and is no program for this machine",
			try: "#!/bin/sh as its first line",
		}
	case bytes.HasSuffix(line, []byte("\r")):
		return finding{
			code: "exec-no-loader", cause: fmt.Sprintf("%s has CRLF line ends: its first line asks for %q", file, strings.TrimLeft(string(rest), " \t")),
			try: "sed -i 's/\\r$//' " + path.Base(file),
		}
	case errno == syscall.ENOENT:
		words := strings.Fields(string(rest))
		if len(words) == 0 {
			break
		}
		if !t.has(words[0]) {
			return finding{
				code: "exec-no-loader", cause: fmt.Sprintf("%s is a script for %s, which is not in this image", file, words[0]),
				try: "an interpreter that is in the image as its first line, or an image that has " + words[0],
			}
		}
	}
	return finding{}
}

// missing tells what there is in place of a program that is not there.
func missing(t *tree, name string) finding {
	f := finding{code: "exec-not-found", cause: t.lacks(name)}
	base := path.Base(name)
	programs := programsIn(t.root, searchPath(t.d))
	first, _, several := strings.Cut(name, " ")
	switch shells := []string{"bash", "sh", "ash", "zsh", "dash"}; {
	case strings.HasPrefix(name, "-"):
		f.cause += ": what follows the image's name is the command"
		f.try = "options come before the image: kist run " + name + " ... " + t.d.Config.Image
		return f
	case several && slices.Contains(programs, path.Base(first)):
		f.cause += "; " + first + " is: the program and its arguments are words of their own"
		f.try = "the same without the quotes around " + name
		return f
	case slices.Contains(shells, base):
		for _, s := range []string{"bash", "sh", "ash", "dash"} {
			if slices.Contains(programs, s) {
				f.cause += "; " + s + " is"
				f.try = "the same with " + s
				return f
			}
		}
		f.cause += ", and no other shell is"
	case slices.Contains(programs, base):
		f.cause += "; " + base + " is, elsewhere"
		f.try = "the same with " + base + ", without its directory"
	default:
		if near := typo.Nearest(base, programs); near != "" {
			f.cause += "; " + near + " is"
			f.try = "the same with " + near
		}
	}
	if f.try == "" && slices.Contains(programs, "ls") {
		f.try = fmt.Sprintf("kist run --rm --entrypoint ls %s %s", t.d.Config.Image, strings.Join(searchPath(t.d), " "))
	}
	return f
}

func searchPath(d *definition) []string {
	for _, kv := range slices.Backward(d.Config.Env) {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			return strings.Split(v, ":")
		}
	}
	return strings.Split(spec.DefaultPath, ":")
}

// maxPrograms bounds what is looked at in an image that means harm.
const maxPrograms = 20000

// programsIn lists the names in the directories.
func programsIn(root *sys.Root, dirs []string) []string {
	var names []string
	for _, dir := range dirs {
		f, err := root.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		list, _ := f.Readdirnames(maxPrograms - len(names)) // Whatever could be read serves.
		_ = f.Close()
		names = append(names, list...)
		if len(names) >= maxPrograms {
			break
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
