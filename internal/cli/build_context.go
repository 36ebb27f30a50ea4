package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/typo"
)

// dockerfileNames are looked for in this order.
var dockerfileNames = []string{"Dockerfile", "Containerfile", "dockerfile"}

// findContext takes the argument for a directory, a URL, or standard input, and finds the Dockerfile.
func (b *buildRun) findContext(path string) error {
	switch {
	case path == "-":
		return b.contextFromStdin()
	case isDir(path):
		dir, err := b.dir("context", path)
		if err != nil {
			return err
		}
		b.req.Context.Dir = dir
		return b.findDockerfile(dir.Path)
	case isRemote(path):
		b.req.Context.Ref = path
		return b.remoteDockerfile()
	}
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		return &hintedError{err: fmt.Errorf("the context %s is no directory", path), try: "kist build -f " + path + " " + filepath.Dir(path), code: "no-context"}
	}
	return &hintedError{err: fmt.Errorf("there is no directory %s", path), try: "kist build PATH, with the directory that COPY copies from", code: "no-context"}
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// isRemote tells URLs and git repositories from paths.
func isRemote(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// dir describes a directory of this machine, and remembers it under the name that the daemon asks for it with.
func (b *buildRun) dir(name, path string) (*buildmsg.Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("%s is no directory", path)
	}
	b.dirs[name] = abs
	d := &buildmsg.Dir{Path: abs}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && b.here() {
		d.Dev, d.Ino = sys.Dev, sys.Ino
	}
	return d, nil
}

// findDockerfile finds the Dockerfile of a context on this machine. As with docker, a path given by -f counts from here, not
// from the context.
func (b *buildRun) findDockerfile(context string) error {
	switch f := b.flags.file; f {
	case "-":
		return b.dockerfileFromStdin()
	case "":
		for _, name := range dockerfileNames {
			if st, err := os.Stat(filepath.Join(context, name)); err == nil && !st.IsDir() {
				b.req.Dockerfile = name
				return nil
			}
		}
		return noDockerfile(context)
	default:
		st, err := os.Stat(f)
		if errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(f) {
			// A path from the context is what is meant when there is such a file.
			if st, err := os.Stat(filepath.Join(context, f)); err == nil && !st.IsDir() {
				b.req.Dockerfile = filepath.ToSlash(f)
				return nil
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return missingDockerfile(f)
		}
		if err != nil {
			return err
		}
		if st.IsDir() {
			return fmt.Errorf("-f %s: it is a directory", f)
		}
		dir, err := b.dir("dockerfile", filepath.Dir(f))
		if err != nil {
			return err
		}
		b.req.Dockerfile, b.req.DockerfileDir = filepath.Base(f), dir
		return nil
	}
}

// noDockerfile says that a directory has none, and which file may be meant.
func noDockerfile(context string) error {
	err := fmt.Errorf("there is no Dockerfile in %s", context)
	entries, rerr := os.ReadDir(context)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if !e.IsDir() && (strings.Contains(name, "dockerfile") || strings.Contains(name, "containerfile")) && !strings.HasSuffix(name, ".dockerignore") {
			return &hintedError{err: err, try: "kist build -f " + filepath.Join(context, e.Name()) + " " + context, code: "no-dockerfile"}
		}
	}
	return &hintedError{err: err, try: "name it with -f FILE", code: "no-dockerfile"}
}

// missingDockerfile says which file beside the one that is not there may be meant.
func missingDockerfile(file string) error {
	err := fmt.Errorf("there is no file %s", file)
	var names []string
	entries, _ := os.ReadDir(filepath.Dir(file)) // No directory, no names.
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if near := typo.Nearest(filepath.Base(file), names); near != "" {
		return &hintedError{err: err, try: "did you mean -f " + filepath.Join(filepath.Dir(file), near) + "?", code: "no-dockerfile"}
	}
	return &hintedError{err: err, try: "name it with -f FILE", code: "no-dockerfile"}
}

// remoteDockerfile finds the Dockerfile of a context elsewhere: in it, or here if the path is absolute.
func (b *buildRun) remoteDockerfile() error {
	switch f := b.flags.file; {
	case f == "-":
		return b.dockerfileFromStdin()
	case filepath.IsAbs(f):
		dir, err := b.dir("dockerfile", filepath.Dir(f))
		if err != nil {
			return err
		}
		b.req.Dockerfile, b.req.DockerfileDir = filepath.Base(f), dir
	default:
		b.req.Dockerfile = f
	}
	return nil
}

// maxDockerfile bounds a Dockerfile on standard input.
const maxDockerfile = 4 << 20

func (b *buildRun) dockerfileFromStdin() error {
	text, err := io.ReadAll(io.LimitReader(b.stdin, maxDockerfile+1))
	if err != nil {
		return fmt.Errorf("read the Dockerfile from standard input: %w", err)
	}
	if len(text) > maxDockerfile {
		return fmt.Errorf("the Dockerfile on standard input is larger than %d bytes", maxDockerfile)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return errors.New("the Dockerfile on standard input is empty")
	}
	b.req.Text = text
	return nil
}

// contextFromStdin tells an archive from a Dockerfile by its beginning.
func (b *buildRun) contextFromStdin() error {
	if b.flags.file == "-" {
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	}
	if _, ok := terminalFD(b.app.in); ok {
		b.app.note("Reading a Dockerfile or an archive from the terminal; end it with ctrl-d.")
	}
	r := bufio.NewReaderSize(b.stdin, 1024)
	head, err := r.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read standard input: %w", err)
	}
	b.stdin = r
	if isArchive(head) {
		b.req.Context.Stream = true
		b.req.Dockerfile = b.flags.file
		return nil
	}
	if b.flags.file != "" {
		return errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	b.req.Context.Empty = true
	return b.dockerfileFromStdin()
}

// isArchive knows tar, and what it may be compressed with.
func isArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(head), magic) {
			return true
		}
	}
	return len(head) >= 262 && string(head[257:262]) == "ustar"
}

// findContexts reads --build-context.
func (b *buildRun) findContexts() error {
	for _, s := range b.flags.contexts.values {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" || value == "" {
			return &hintedError{err: fmt.Errorf("invalid --build-context %q", s), try: "--build-context NAME=PATH"}
		}
		if b.req.Contexts == nil {
			b.req.Contexts = map[string]buildmsg.Source{}
		}
		name = strings.ToLower(name)
		if strings.Contains(value, "://") || isRemote(value) {
			src := buildmsg.Source{Ref: value}
			if path, ok := strings.CutPrefix(value, "oci-layout://"); ok {
				var err error
				if src, err = b.layout(name, path); err != nil {
					return fmt.Errorf("--build-context %s: %w", name, err)
				}
			}
			b.req.Contexts[name] = src
			continue
		}
		dir, err := b.dir("named-"+name, value)
		if err != nil {
			return fmt.Errorf("--build-context %s: %w", name, err)
		}
		b.req.Contexts[name] = buildmsg.Source{Dir: dir}
	}
	return nil
}

// layout describes an image in an OCI layout of this machine: PATH[:TAG][@DIGEST].
func (b *buildRun) layout(name, s string) (buildmsg.Source, error) {
	path, digest, pinned := strings.Cut(s, "@")
	tag := ""
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') && !isDir(path) {
		path, tag = path[:i], path[i:]
	}
	dir, err := b.dir("layout-"+name, path)
	if err != nil {
		return buildmsg.Source{}, err
	}
	ref := "oci-layout://" + dir.Path + tag
	if pinned {
		ref += "@" + digest
	}
	return buildmsg.Source{Ref: ref, Dir: dir}, nil
}
