package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/client"
)

// failed shows why a build failed: the last output of the step, the lines of the Dockerfile, and the error.
func (b *buildRun) failed(f *buildmsg.Failure) error {
	if b.view.style != buildRaw {
		b.view.warnings()
		if text := failureText(f, b.view.style != buildPlain); text != "" {
			b.app.note(strings.TrimSuffix(text, "\n"))
		}
	}
	return &client.Error{Parts: f.Parts}
}

// failureText is what is shown above the error. The output is left out where it was shown as it came.
func failureText(f *buildmsg.Failure, output bool) string {
	var b strings.Builder
	if tail := strings.TrimRight(string(f.Tail), "\n"); output && tail != "" {
		fmt.Fprintf(&b, "------\n > %s:\n", stripControl(f.Step))
		for line := range strings.Lines(tail) {
			b.WriteString(cleanOutput(strings.TrimSuffix(line, "\n")) + "\n")
		}
		b.WriteString("------\n")
	}
	for i := range f.Places {
		placeText(&b, &f.Places[i], blamedWord(f.Message))
	}
	return b.String()
}

// blamedWord is the word that a syntax error is about.
func blamedWord(message string) string {
	for _, sign := range []string{"unknown instruction: ", "unknown flag: ", "unknown type in FROM instruction: "} {
		if _, rest, ok := strings.Cut(message, sign); ok {
			word, _, _ := strings.Cut(rest, " ")
			return word
		}
	}
	return ""
}

// placeText shows lines of a file, those to blame marked, and the word to blame with carets.
func placeText(b *strings.Builder, p *buildmsg.Place, word string) {
	const rule = "--------------------\n"
	fmt.Fprintf(b, "%s:%d\n%s", stripControl(p.File), p.Marks[0].Start.Line, rule)
	for i, line := range p.Lines {
		n := p.First + i
		mark := "   "
		for _, m := range p.Marks {
			if n >= m.Start.Line && n <= m.End.Line {
				mark = ">>>"
			}
		}
		text := stripControl(strings.ReplaceAll(line, "\t", "    "))
		b.WriteString(strings.TrimRight(fmt.Sprintf("%4d | %s %s", n, mark, text), " ") + "\n")
		if i := strings.Index(strings.ToLower(text), strings.ToLower(word)); mark == ">>>" && word != "" && i >= 0 {
			b.WriteString("     |     " + strings.Repeat(" ", len([]rune(text[:i]))) + strings.Repeat("^", len([]rune(word))) + "\n")
		}
	}
	b.WriteString(rule)
}

// called prints the result of --check and --call.
func (b *buildRun) called(r *buildmsg.Result) error {
	if b.call.json {
		if err := b.app.printLine(strings.TrimSpace(string(r.Metadata["result.json"]))); err != nil {
			return err
		}
	}
	if b.call.method != "frontend.lint" {
		if b.call.json {
			return nil
		}
		return b.app.printLine(strings.TrimRight(string(r.Metadata["result.txt"]), "\n"))
	}
	var found struct {
		Warnings   []json.RawMessage `json:"warnings"`
		BuildError *struct {
			Message string `json:"message"`
		} `json:"buildError"`
	}
	if err := json.Unmarshal(r.Metadata["result.json"], &found); err != nil {
		return fmt.Errorf("read the check's result: %w", err)
	}
	n := len(found.Warnings)
	if !b.call.json {
		if err := b.app.printLine(checkText(n, string(r.Metadata["result.txt"]))); err != nil {
			return err
		}
	}
	if found.BuildError != nil && found.BuildError.Message != "" {
		return fmt.Errorf("the Dockerfile cannot be built: %s", found.BuildError.Message)
	}
	if n > 0 {
		return silent(exitFailure)
	}
	return nil
}

func checkText(n int, text string) string {
	switch n {
	case 0:
		return "Check complete, no warnings found."
	case 1:
		return "Check complete, 1 warning has been found!\n\n" + strings.Trim(text, "\n")
	}
	return fmt.Sprintf("Check complete, %d warnings have been found!\n\n", n) + strings.Trim(text, "\n")
}
