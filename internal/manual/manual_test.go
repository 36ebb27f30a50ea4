package manual

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose"
)

var update = flag.Bool("update", false, "write docs/reference anew")

const reference = "../../docs/reference"

func TestReferenceIsUpToDate(t *testing.T) {
	pages := Markdown(cli.Tree(), compose.Tree())
	if len(pages) < 40 {
		t.Fatalf("only %d pages", len(pages))
	}
	for name, want := range pages {
		path := filepath.Join(reference, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v: run make reference", err)
			continue
		}
		if d := cmp.Diff(want, string(got)); d != "" {
			t.Errorf("%s is out of date: run make reference\n%s", name, d)
		}
	}
	there, err := filepath.Glob(filepath.Join(reference, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if _, ok := pages[filepath.Base(path)]; !ok && filepath.Base(path) != "kistd.md" {
			t.Errorf("%s is of a command that does not exist: run make reference", path)
		}
	}
}

// tree is a small program.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "prog", Short: "Do things"}
	root.Flags().BoolP("loud", "l", false, "Be heard")
	sub := &cobra.Command{Use: "sub [OPTIONS] FILE", Short: "Do one thing", Long: ".dot\nsecond \\ line", Aliases: []string{"s"}, Run: func(*cobra.Command, []string) {}}
	sub.Flags().String("how", "well", "In which `way`")
	sub.Flags().Bool("secret", false, "Not shown")
	sub.Flags().Lookup("secret").Hidden = true
	root.AddCommand(sub, &cobra.Command{Use: "hidden", Hidden: true, Run: func(*cobra.Command, []string) {}})
	return root
}

func TestManPages(t *testing.T) {
	pages := Man(Origin{"1.2", time.Unix(0, 0)}, tree())
	if len(pages) != 2 {
		t.Fatalf("%v", pages)
	}
	sub := pages["prog-sub.1"]
	for _, want := range []string{
		".TH PROG\\-SUB 1 \"1970-01-01\" \"kist 1.2\"", "prog\\-sub \\- Do one thing", ".B prog sub [OPTIONS] FILE", ".B prog s\n",
		"\\&.dot\nsecond \\e line", "\\fB\\-\\-how\\fR \\fIway\\fR\nIn which way\n(default well)", "\\fBprog\\fR(1)",
	} {
		if !strings.Contains(sub, want) {
			t.Errorf("%q is missing in\n%s", want, sub)
		}
	}
	if strings.Contains(sub, "secret") {
		t.Error("a hidden flag is shown")
	}
	if root := pages["prog.1"]; !strings.Contains(root, "\\fBprog\\-sub\\fR(1)") || strings.Contains(root, "hidden") {
		t.Error(root)
	}
}

// TestManPagesAreRoff has groff read all of them.
func TestManPagesAreRoff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("skip: groff is not installed")
	}
	var all strings.Builder
	for _, p := range Man(Origin{"1", time.Unix(0, 0)}, cli.Tree(), compose.Tree()) {
		all.WriteString(p)
	}
	all.WriteString(Daemon("Usage:\n  -a, --all   everything\n", Origin{"1", time.Unix(0, 0)}))
	cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-Wbreak", "-z")
	cmd.Stdin = strings.NewReader(all.String())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %.2000s", err, out)
	}
}
