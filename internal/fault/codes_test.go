package fault_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// codeForm is how a code looks.
var codeForm = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// TestEveryCodeIsDocumented compares the codes in the source with the table of docs/errors.md, both ways.
func TestEveryCodeIsDocumented(t *testing.T) {
	used, prefixes := usedCodes(t)
	if len(used) < 100 {
		t.Fatalf("only %d codes were found in the source: this test does not find them any more", len(used))
	}
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(string(raw), -1) {
		if documented[row[1]] {
			t.Errorf("docs/errors.md has %s twice", row[1])
		}
		documented[row[1]] = true
	}
	for code, place := range used {
		if !documented[code] {
			t.Errorf("%s: the code %q has no row in docs/errors.md: | `%s` | what it means | what to do |", place, code, code)
		}
	}
	for code := range documented {
		if used[code] == "" && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(code, p) }) {
			t.Errorf("docs/errors.md has %s, which nothing in the source uses", code)
		}
	}
}

// usedCodes finds the codes in the source, with a place each: what is assigned to or composed into a field Code, what is passed
// for a parameter called code, and what functions return that are called after codes.
// Codes whose ends are put on when they are made are told by their prefixes.
func usedCodes(t *testing.T) (used map[string]string, prefixes []string) {
	files := token.NewFileSet()
	packages := map[string][]*ast.File{}
	for _, top := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", "..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || d.Name() == "testbed") {
				return fs.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(files, path, nil, 0)
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	used = map[string]string{}
	for _, list := range packages {
		c := &collector{used: used, files: files, takes: map[string]int{}}
		for _, f := range list {
			c.signatures(f)
		}
		for _, f := range list {
			if importsFault(f) || len(c.takes) > 0 {
				ast.Inspect(f, c.visit)
			}
		}
		prefixes = append(prefixes, c.prefixes...)
	}
	return used, prefixes
}

func importsFault(f *ast.File) bool {
	for _, i := range f.Imports {
		if strings.HasSuffix(i.Path.Value, `/internal/fault"`) || strings.HasSuffix(i.Path.Value, `/internal/client"`) || strings.HasSuffix(i.Path.Value, `/internal/buildmsg"`) {
			return true
		}
	}
	return f.Name.Name == "fault" || f.Name.Name == "cli" || f.Name.Name == "engine"
}

type collector struct {
	used     map[string]string
	prefixes []string
	files    *token.FileSet
	takes    map[string]int // functions with a parameter called code, and where it is
}

func (c *collector) signatures(f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := 0
		for _, p := range fn.Type.Params.List {
			for _, name := range p.Names {
				if kind, ok := p.Type.(*ast.Ident); ok && name.Name == "code" && kind.Name == "string" {
					c.takes[fn.Name.Name] = n
				}
				n++
			}
		}
	}
}

func (c *collector) visit(n ast.Node) bool {
	switch x := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := x.Key.(*ast.Ident); ok && isCode(key.Name) {
			c.note(x.Value)
		}
	case *ast.AssignStmt:
		for i, left := range x.Lhs {
			if i < len(x.Rhs) && isCode(lastName(left)) {
				c.note(x.Rhs[i])
			}
		}
	case *ast.CallExpr:
		if at, ok := c.takes[lastName(x.Fun)]; ok && at < len(x.Args) {
			c.note(x.Args[at])
		}
	case *ast.FuncDecl:
		if name := strings.ToLower(x.Name.Name); !strings.HasSuffix(name, "code") && name != "codeof" || x.Body == nil {
			return true
		}
		ast.Inspect(x.Body, func(n ast.Node) bool {
			if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) > 0 {
				c.note(r.Results[0])
			}
			return true
		})
	}
	return true
}

func isCode(name string) bool { return name == "Code" || name == "code" }

func lastName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

// note enters the literals in an expression: cmp.Or has several.
func (c *collector) note(e ast.Expr) {
	if call, ok := e.(*ast.CallExpr); ok && lastName(call.Fun) == "Or" {
		for _, a := range call.Args {
			c.note(a)
		}
	}
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		if lit, ok := sum.X.(*ast.BasicLit); ok {
			if p, err := strconv.Unquote(lit.Value); err == nil && strings.HasSuffix(p, "-") {
				c.prefixes = append(c.prefixes, p)
			}
		}
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}
	code, err := strconv.Unquote(lit.Value)
	if err == nil && codeForm.MatchString(code) {
		c.used[code] = c.files.Position(lit.Pos()).String()
	}
}
