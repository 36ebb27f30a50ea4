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
	defer func() { _ = root.Close() }()
	if x.Step == "chdir" {
		return examineDir(root, x)
	}
	return examineProgram(root, d, x)
}

func examineDir(root *sys.Root, x *task.ExecError) finding {
	st, err := root.Stat(x.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{code: "exec-no-directory", cause: fmt.Sprintf("the working directory %s is not in this image", x.Path)}
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return finding{code: "exec-no-directory", cause: fmt.Sprintf("the working directory %s is a file", x.Path)}
	}
	return finding{}
}

func examineProgram(root *sys.Root, d *definition, x *task.ExecError) finding {
	if !strings.Contains(x.Path, "/") {
		return missing(root, d, x.Path)
	}
	file := x.Path
	if !path.IsAbs(file) {
		file = path.Join("/", d.Config.WorkingDir, file)
	}
	st, err := root.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(root, d, file)
	case err != nil:
		return finding{}
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return finding{code: "exec-is-directory", cause: file + " is a directory", directory: true}
	case x.Errno == syscall.EACCES && st.Mode&0o111 == 0:
		return finding{
			code: "exec-not-executable", cause: fmt.Sprintf("%s is not executable, its mode is %04o", file, st.Mode&0o7777),
			try: "chmod +x " + path.Base(file) + " before the image is built",
		}
	}
	return examineContent(root, d, file, x.Errno)
}

// examineContent reads the first line, or the ELF header.
func examineContent(root *sys.Root, d *definition, file string, errno syscall.Errno) finding {
	f, err := root.OpenRegular(file)
	if err != nil {
		return finding{}
	}
	defer func() { _ = f.Close() }()
	p, err := readELF(f)
	if err == nil {
		return examineELF(root, d, file, p, errno)
	}
	head := make([]byte, 256)
	n, _ := io.ReadFull(f, head)
	return examineScript(root, file, head[:n], errno)
}

func examineELF(root *sys.Root, d *definition, file string, p program, errno syscall.Errno) finding {
	arch := architectures[p.machine]
	switch {
	case errno == syscall.ENOEXEC && arch != "" && arch != runtime.GOARCH:
		what := file
		if d.Arch == arch {
			what = "the image"
		}
		return finding{
			code: "exec-wrong-architecture", cause: fmt.Sprintf("%s is %s, this host is %s", what, arch, runtime.GOARCH),
			try: "an image for linux/" + runtime.GOARCH + " (--platform)",
		}
	case errno == syscall.ENOENT && p.loader != "":
		if _, err := root.Stat(p.loader); errors.Is(err, fs.ErrNotExist) {
			return finding{
				code: "exec-no-loader", cause: fmt.Sprintf("%s needs the loader %s, which is not in this image", file, p.loader),
				try: "a static build, or a base image with the C library that the program was built for",
			}
		}
	}
	return finding{}
}

func examineScript(root *sys.Root, file string, head []byte, errno syscall.Errno) finding {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	rest, script := bytes.CutPrefix(line, []byte("#!"))
	switch {
	case len(head) == 0:
		return finding{code: "exec-format", cause: file + " is empty"}
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
		if _, err := root.Stat(words[0]); errors.Is(err, fs.ErrNotExist) {
			return finding{
				code: "exec-no-loader", cause: fmt.Sprintf("%s is a script for %s, which is not in this image", file, words[0]),
			}
		}
	}
	return finding{}
}

// missing tells what there is in place of a program that is not there.
func missing(root *sys.Root, d *definition, name string) finding {
	f := finding{code: "exec-not-found", cause: name + " is not in this image"}
	base := path.Base(name)
	programs := programsIn(root, searchPath(d))
	switch shells := []string{"bash", "sh", "ash", "zsh", "dash"}; {
	case slices.Contains(shells, base):
		for _, s := range []string{"bash", "sh", "ash", "dash"} {
			if slices.Contains(programs, s) {
				f.cause += "; " + s + " is"
				f.try = s
				return f
			}
		}
		f.cause += ", and no other shell is"
	case slices.Contains(programs, base):
		f.cause += "; " + base + " is, elsewhere"
		f.try = base
	default:
		if near := nearest(base, programs); near != "" {
			f.cause += "; " + near + " is"
			f.try = near
		}
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
