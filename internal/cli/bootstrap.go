package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/client"
)

// bootstrapFlags are those of image bootstrap.
type bootstrapFlags struct {
	req                 bootmsg.Request
	include, exclude    listFlag
	components, mirrors listFlag
	keyrings            listFlag
	progress, epoch     string
	quiet               bool
}

func (a *app) bootstrapCommand() *cobra.Command {
	f := new(bootstrapFlags)
	c := &cobra.Command{
		Use: "bootstrap [OPTIONS] [DISTRIBUTION:]SUITE", Args: exactly(1),
		Example: "  kist image bootstrap debian:bookworm\n  kist image bootstrap --include python3,ca-certificates -t base ubuntu:noble",
	}
	fs := c.Flags()
	fs.StringVarP(&f.req.Tag, "tag", "t", "", "Name of the image (default: the suite's, as debian:bookworm)")
	fs.StringVar(&f.req.Variant, "variant", "minbase", "What to begin with: essential, minbase, buildd, important or standard")
	list(fs, &f.include, "include", "", "Packages to add, with what they depend on", nil)
	list(fs, &f.exclude, "exclude", "", "Packages that nothing may bring along", nil)
	list(fs, &f.components, "components", "", "Components of the archive (default: those of apt's sources, or main)", nil)
	fs.StringVar(&f.req.Arch, "arch", "", "Architecture, as Debian calls it (default: that of the daemon's machine)")
	list(fs, &f.mirrors, "mirror", "", "Address of a mirror, or a line of sources.list (default: apt's on the daemon's machine)", nil)
	list(fs, &f.keyrings, "keyring", "", "File with the keys to believe (default: apt's on the daemon's machine)", nil)
	fs.BoolVar(&f.req.Unsigned, "no-check-signature", false, "Believe an archive whoever has signed it")
	fs.BoolVar(&f.req.Stale, "no-check-valid-until", false, "Take an archive that has not been updated for too long")
	fs.StringVar(&f.epoch, "source-date-epoch", "", "Seconds since 1970 that nothing in the image is later than (default: $SOURCE_DATE_EPOCH, or the archive's date)")
	fs.BoolVar(&f.req.List, "print-packages", false, "Only print which packages there would be")
	fs.StringVar(&f.progress, "progress", "auto", "How to show progress: auto, plain, json or quiet")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print the image's id only")
	c.RunE = func(_ *cobra.Command, args []string) error {
		f.req.Suite = args[0]
		if err := f.read(a); err != nil {
			return err
		}
		return a.bootstrap(f)
	}
	return c
}

// read completes the request.
func (f *bootstrapFlags) read(a *app) error {
	f.req.Include, f.req.Exclude, f.req.Components = words(f.include.values), words(f.exclude.values), words(f.components.values)
	f.req.Mirrors = f.mirrors.values
	for _, name := range f.keyrings.values {
		raw, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("--keyring: %w", err)
		}
		f.req.Keyrings = append(f.req.Keyrings, raw)
	}
	if f.epoch == "" {
		f.epoch = a.getenv("SOURCE_DATE_EPOCH")
	}
	if f.epoch != "" {
		n, err := strconv.ParseInt(f.epoch, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("invalid --source-date-epoch %q: want seconds since 1970", f.epoch)
		}
		f.req.Epoch = &n
	}
	return nil
}

// words are values that may be given at once, with commas or spaces between them.
func words(values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	return out
}

func (a *app) bootstrap(f *bootstrapFlags) error {
	style, err := a.progressStyle(f.progress, f.quiet)
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	r, err := client.PostJSON("/kist/bootstrap", nil, &f.req)
	if err != nil {
		return err
	}
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	v := &bootstrapView{progressView: a.newProgress(style), app: a, stages: map[string]string{}}
	last, err := v.follow(resp.Body)
	switch {
	case err != nil:
		return err
	case last.Failure != nil:
		if tail := strings.TrimSpace(last.Failure.Tail); tail != "" && style != styleJSON {
			for line := range strings.Lines(tail) {
				a.note(cleanOutput(strings.TrimSuffix(line, "\n")))
			}
		}
		return &client.Error{Parts: last.Failure.Parts}
	case last.Result == nil:
		return errors.New("the daemon ended the bootstrap without saying how")
	case style == styleJSON:
		return nil
	case f.req.List:
		return a.printPackages(last.Result)
	}
	return v.succeeded(last.Result, f.quiet)
}

// printPackages lists what the image would have.
func (a *app) printPackages(r *bootmsg.Result) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
	for _, p := range r.Packages {
		fmt.Fprintf(w, "%s\t%s\t%s\n", stripControl(p.Name), stripControl(p.Version), stripControl(p.Arch))
	}
	return w.Flush()
}

// bootstrapView shows how far the stages have come: as rows that move, or a line when a stage begins and when it ends.
type bootstrapView struct {
	*progressView
	app    *app
	stages map[string]string
	// fetching is when the first and the last package came.
	fetching [2]time.Time
}

// follow reads messages until the last one.
func (v *bootstrapView) follow(body io.Reader) (*bootmsg.Message, error) {
	dec := json.NewDecoder(bufio.NewReaderSize(body, 16<<10))
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err == io.EOF {
			return &bootmsg.Message{}, nil
		} else if err != nil {
			return nil, lostDaemon(fmt.Errorf("read the daemon's progress: %w", err))
		}
		m := new(bootmsg.Message)
		if err := json.Unmarshal(raw, m); err != nil {
			return nil, fmt.Errorf("read the daemon's progress: %w", err)
		}
		if v.style == styleJSON {
			if _, err := v.w.Write(append(raw, '\n')); err != nil {
				return nil, err
			}
		}
		if m.Result != nil || m.Failure != nil {
			return m, nil
		}
		if err := v.show(m); err != nil {
			return nil, err
		}
	}
}

// verbs are what is done in a stage, and with what.
var verbs = map[string][2]string{
	bootmsg.StageLists: {"reading", "lists of packages"}, bootmsg.StageFetch: {"fetching", "packages"},
	bootmsg.StageUnpack: {"unpacking", "packages"}, bootmsg.StageConfigure: {"configuring", "packages"}, bootmsg.StagePack: {"packing", "image"},
}

func (v *bootstrapView) show(m *bootmsg.Message) error {
	if m.Note != "" && v.style != styleQuiet && v.style != styleJSON {
		_, err := fmt.Fprintln(v.w, stripControl(m.Note))
		v.rows, v.texts = nil, map[string]string{} // what is above stays as it is
		return err
	}
	p := m.Progress
	if p != nil && p.Stage == bootmsg.StageFetch {
		if v.fetching[1] = time.Now(); v.fetching[0].IsZero() {
			v.fetching[0] = v.fetching[1]
		}
	}
	if p == nil || v.style != stylePlain && v.style != styleLive {
		return nil
	}
	verb, ok := verbs[p.Stage]
	if !ok {
		verb = [2]string{p.Stage, "steps"}
	}
	if v.style == stylePlain {
		return v.stage(p, verb)
	}
	row := &progressMessage{ID: verb[0], Status: fmt.Sprintf("%d of %d %s", p.Done, p.Total, verb[1])}
	row.Detail.Current, row.Detail.Total = p.Bytes, p.TotalBytes
	if p.TotalBytes == 0 {
		row.Status += " " + p.Name
		if p.Done != p.Total && time.Since(v.last) < redraw && v.texts[row.ID] != "" {
			return nil
		}
		v.last = time.Now()
	}
	return v.live(row)
}

// stage prints a line when a stage begins, and one when it ends.
func (v *bootstrapView) stage(p *bootmsg.Progress, verb [2]string) error {
	text := fmt.Sprintf("%s %d %s", verb[0], p.Total, verb[1])
	if p.TotalBytes > 0 {
		text += ", " + units.HumanSize(float64(p.TotalBytes))
	}
	if p.Done == p.Total && p.Total > 0 {
		text = verb[0] + ": done"
	}
	if v.stages[p.Stage] == text {
		return nil
	}
	v.stages[p.Stage] = text
	_, err := fmt.Fprintln(v.w, text)
	return err
}

// succeeded says what was made, in a line, and prints the image's name.
func (v *bootstrapView) succeeded(r *bootmsg.Result, quiet bool) error {
	if quiet {
		return v.app.printLine(r.ID)
	}
	if v.style != styleQuiet {
		gone := time.Since(v.began).Seconds()
		signer := ""
		if r.Signer != "" {
			signer = ", signed by " + r.Signer
		}
		text := fmt.Sprintf("Made %s of %s as of %s%s: %d packages, %s fetched (%s/s), %s on disk, in %.1f s", r.Name, r.Suite,
			strings.Replace(r.Date, "T", " ", 1), signer, len(r.Packages), units.HumanSize(float64(r.Fetched)),
			units.HumanSize(float64(r.Fetched)/max(v.fetching[1].Sub(v.fetching[0]).Seconds(), 0.001)), units.HumanSize(float64(r.Size)), gone)
		if _, err := fmt.Fprintln(v.w, stripControl(text)); err != nil {
			return err
		}
	}
	return v.app.printLine(r.Name)
}
