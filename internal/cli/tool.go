package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/client"
)

// Tool is what another program of kist's shares with its commands: the daemon's address, terminals, credentials, and how
// failures are told.
type Tool struct {
	app *app
	// Flags are those before the command.
	Flags *pflag.FlagSet
}

// NewTool makes one on this process's streams.
func NewTool() *Tool {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	return &Tool{app: a, Flags: a.globalFlags()}
}

// Adopt makes a tree of commands look and fail like kist's own.
func (t *Tool) Adopt(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage, root.DisableFlagsInUseLine = true, true, true
	root.SetOut(t.app.out)
	root.SetErr(t.app.err)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		var b strings.Builder
		t.app.commandHelp(&b, c)
		_, _ = io.WriteString(t.app.out, b.String()) // A closed standard output ends the program by itself.
	})
	root.SetUsageFunc(func(*cobra.Command) error { return nil })
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return flagError(c, c.Flags(), err) })
	root.CompletionOptions.HiddenDefaultCmd = true
}

// UnknownCommand is a name that a group has no command of.
func (t *Tool) UnknownCommand(c *cobra.Command, name string) error {
	var entries []entry
	for _, s := range c.Commands() {
		entries = append(entries, entry{names: []string{s.Name()}})
	}
	return unknownCommand(c.CommandPath(), name, entries)
}

// Client is the connection to the daemon.
func (t *Tool) Client() (*client.Client, error) { return t.app.client() }

// Close ends the connection.
func (t *Tool) Close() {
	if t.app.shared != nil {
		t.app.shared.Close()
	}
}

// Report tells of a failure, and returns the exit code.
func (t *Tool) Report(err error) int { return t.app.report(err) }

// Note writes a line for the person.
func (t *Tool) Note(s string) { t.app.note(s) }

// Complain tells of a failure that does not end the command.
func (t *Tool) Complain(err error) { t.app.complain(err) }

// Lively tells that standard error is a terminal that can be drawn over, of rows and columns.
func (t *Tool) Lively() (rows, cols int, ok bool) {
	if !t.app.lively(t.app.err) {
		return 0, 0, false
	}
	return terminalSize(t.app.err)
}

// Terminals tells which of standard input and output are terminals.
func (t *Tool) Terminals() (in, out bool) {
	_, in = terminalFD(t.app.in)
	_, out = terminalFD(t.app.out)
	return in, out
}

// Coloured tells that colours are wanted on standard output.
func (t *Tool) Coloured() bool { return t.app.getenv("NO_COLOR") == "" && t.app.lively(t.app.out) }

// Command carries out one of kist's own commands.
func (t *Tool) Command(args ...string) error {
	root := t.app.root(args)
	root.SetArgs(args)
	return root.Execute()
}

// RunMade starts a container that was made for one command, joined to this process's streams as its configuration says, and
// ends as it does.
func (t *Tool) RunMade(id string, r *container.CreateRequest) error {
	cl, err := t.app.client()
	if err != nil {
		return err
	}
	if err := t.app.runMode(&runFlags{}, r); err != nil {
		return err
	}
	return t.app.runMade(cl, &runFlags{containerFlags: containerFlags{rm: r.HostConfig.AutoRemove}, sigProxy: true}, r, id)
}

// tellPeriod is how often the state of a pull is told.
const tellPeriod = 100 * time.Millisecond

// Pull fetches an image and tells how many bytes of how many have come.
func (t *Tool) Pull(image, platform string, tell func(have, total int64)) error {
	cl, err := t.app.client()
	if err != nil {
		return err
	}
	ref, err := parseImage(image)
	if err != nil {
		return err
	}
	v := &pullTally{tell: tell, have: map[string]int64{}, total: map[string]int64{}}
	q := url.Values{"fromImage": {ref.familiar()}, "tag": {cmp.Or(ref.digest, ref.tagged().tag)}}
	if platform != "" {
		q.Set("platform", strings.ToLower(platform))
	}
	return t.app.registryStream(cl, client.Post("/images/create", q), ref.domain, v.read)
}

// pullTally adds up what the messages of a pull say of each layer.
type pullTally struct {
	tell        func(have, total int64)
	have, total map[string]int64
	last        time.Time
}

func (v *pullTally) read(body io.Reader) error {
	dec := json.NewDecoder(body)
	for {
		var m progressMessage
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return lostDaemon(fmt.Errorf("read the daemon's progress: %w", err))
		}
		if err := m.fail(); err != nil {
			return err
		}
		if m.Detail.Total <= 0 || !strings.HasPrefix(m.Status, "Download") {
			continue
		}
		v.have[m.ID], v.total[m.ID] = m.Detail.Current, m.Detail.Total
		if now := time.Now(); now.Sub(v.last) > tellPeriod {
			v.last = now
			var have, total int64
			for id := range v.total {
				have, total = have+v.have[id], total+v.total[id]
			}
			v.tell(have, total)
		}
	}
}

// Proxies are the variables that the settings give every new container.
func (t *Tool) Proxies() ([]string, error) {
	cl, err := t.app.client()
	if err != nil {
		return nil, err
	}
	return t.app.config().proxyEnv(cl.Endpoint().String()), nil
}

// ExitWith ends the command with a code; everything was said already.
func ExitWith(code int) error { return silent(code) }

// Hinted is an error with what to try.
func Hinted(err error, try string) error { return &hintedError{err: err, try: try} }

// Reachable says for published ports where they answer and for whom.
func Reachable(ports network.PortMap) []string { return reachable(ports) }

// FormatPorts lists ports as docker's PORTS column.
func FormatPorts(ports []container.PortSummary) string { return formatPorts(ports) }

// Ago is a time that has gone by.
func Ago(d time.Duration) string { return ago(d) }

// ImageMissing tells that a request failed for want of an image.
func ImageMissing(err error) bool { return imageMissing(err) }

// Clean takes out of a line what would move the cursor.
func Clean(s string) string { return cleanOutput(s) }

// Ellipsis shortens to n characters.
func Ellipsis(s string, n int) string { return ellipsis(s, n) }

// ShortID is the part of an id that is shown.
func ShortID(id string) string { return shortID(id) }

// Rows is how a list is printed.
type Rows struct {
	// Format is --format's value; Table the template of the usual table, Titles its columns' names.
	Format, Table string
	Titles        map[string]string
}

// PrintRows prints a list on standard output.
func PrintRows[T any](t *Tool, r Rows, rows []T) error {
	return printRows(t.app.out, &listing{format: r.Format, table: r.Table, headers: r.Titles}, rows)
}

// ExecCode is the exit code of a command in a container whose output has ended.
func (t *Tool) ExecCode(id string) (int, error) {
	cl, err := t.app.client()
	if err != nil {
		return 0, err
	}
	return execCode(cl, id)
}

// Confirm asks a question that a person answers with yes or no. Where there is no person it says no.
func (t *Tool) Confirm(question string) (bool, error) { return t.app.confirm(question) }
