package kist

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// levels is the table of ARCHITECTURE.md: a package imports packages of lower levels only.
var levels = map[string]int{
	"undo": 0, "sys": 0, "event": 0, "db": 0, "fault": 0, "filter": 0, "typo": 0, "keyed": 0, "inflate": 0, "xz": 0, "relay": 0, "front": 0,
	"chunk": 0, "access": 0,
	"content": 1, "archive": 1, "registry": 1, "spec": 1, "logfile": 1, "seccomp": 1, "cgroup": 1, "client": 1, "dns": 1, "treesum": 1, "debian": 1, "cdi": 1, "scope": 1, "bridge": 1,
	"buildmsg": 1, "bootmsg": 1, "movemsg": 1, "servemsg": 1,
	"layer": 2, "task": 2, "runtime": 2, "network": 2, "volume": 2, "hostinfo": 2, "doctor": 2, "fetch": 2,
	"keeper": 3, "image": 3, "fileop": 3, "runstep": 3,
	"engine": 4, "build": 4, "bootstrap": 4, "serve": 4,
	"api": 5, "cli": 5, "buildkit": 5, "move": 5,
	"desk": 6, "compose": 6,
	"manual": 7,
}

const internal = "github.com/kistdev/kist/internal/"

func TestImportsGoDownward(t *testing.T) {
	err := filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "testbed") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		checkImports(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, path string) {
	t.Helper()
	own, _, _ := strings.Cut(strings.TrimPrefix(filepath.ToSlash(path), "internal/"), "/")
	level, ok := levels[own]
	if !ok {
		t.Errorf("%s: package %s has no level in ARCHITECTURE.md", path, own)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(imported, internal)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if name == own {
			continue
		}
		if other, ok := levels[name]; !ok || other >= level {
			t.Errorf("%s (level %d) imports %s (level %d): imports go strictly downward", path, level, name, other)
		}
	}
}
