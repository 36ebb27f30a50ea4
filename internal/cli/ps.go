package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// containerRow is a line of ps. The order of its fields is that of its JSON.
type containerRow struct {
	Command      string
	CreatedAt    string
	HealthStatus string
	ID           string
	Image        string
	Labels       string
	LocalVolumes string
	Mounts       string
	Names        string
	Networks     string
	Platform     *string
	Ports        string
	RunningFor   string
	Size         string
	State        string
	Status       string
	labels
	exit *exitReason
}

// Why is the reason why it ended. It is a method, because docker's JSON has no such field.
func (r containerRow) Why() string {
	if r.exit == nil {
		return ""
	}
	return r.exit.Text
}

// exitReason is what kist's daemon tells of an end beyond docker's exit code.
type exitReason struct{ Brief, Text string }

// listed is a container as kist's daemon lists it.
type listed struct {
	container.Summary
	KistExit *exitReason
}

var containerHeaders = headers{
	"ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
	"RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS",
	"Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM", "HealthStatus": "HEALTH", "Why": "WHY IT ENDED",
}

const (
	containerTable     = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
	containerTableSize = containerTable + "\t{{.Size}}"
	containerRaw       = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n" +
		"state: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels:{{pad .Labels 1 0}}\nports:{{pad .Ports 1 0}}\n"
)

func (a *app) psCommand() *cobra.Command {
	var (
		all, latest, noTrunc, quiet, size bool
		why                               bool
		last                              int
		format                            string
		filters                           filterFlag
	)
	c := &cobra.Command{Use: "ps [OPTIONS]", Args: noArgs}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Also show containers that do not run")
	f.VarP(&filters, "filter", "f", "Show only what matches, as in status=exited")
	f.StringVar(&format, "format", "", formatHelp)
	f.IntVarP(&last, "last", "n", -1, "Show the n containers made last, whatever their state")
	f.BoolVarP(&latest, "latest", "l", false, "Show the container made last")
	f.BoolVar(&noTrunc, "no-trunc", false, "Do not shorten anything")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	f.BoolVarP(&size, "size", "s", false, "Show what each container's files take")
	f.BoolVar(&why, "why", false, "Show why containers that do not run ended")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if format == "" {
			format = a.config().PsFormat
		}
		l := &listing{format: format, whole: noTrunc, table: containerTable, headers: containerHeaders, raw: containerRaw}
		if size {
			l.table, l.raw = containerTableSize, containerRaw+"size: {{.Size}}\n"
		}
		if why {
			l.table += "\t{{.Why}}"
		}
		if quiet {
			l.quiet = "{{.ID}}"
		}
		q := url.Values{}
		if all {
			q.Set("all", "1")
		}
		if latest {
			last = 1
		}
		if last > 0 {
			q.Set("limit", strconv.Itoa(last))
		}
		if size || !quiet && strings.Contains(format, ".Size") {
			q.Set("size", "1")
		}
		filters.addTo(q)
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := client.CallJSON[[]listed](cl, client.Get("/containers/json", q))
		if err != nil {
			return err
		}
		_, terminal := terminalFD(a.out)
		rows := make([]containerRow, len(*list))
		for i := range *list {
			rows[i] = containerRowOf(&(*list)[i].Summary, !noTrunc, time.Now())
			if rows[i].exit = (*list)[i].KistExit; terminal && format == "" && !why {
				rows[i].addReason()
			}
		}
		return printRows(a.out, l, rows)
	}
	return c
}

func containerRowOf(s *container.Summary, trunc bool, now time.Time) containerRow {
	r := containerRow{
		ID: s.ID, Image: s.Image, Command: s.Command, State: string(s.State), Status: s.Status,
		CreatedAt: time.Unix(s.Created, 0).String(), RunningFor: ago(now.Sub(time.Unix(s.Created, 0))),
		Ports: formatPorts(s.Ports), Size: containerSize(s), labels: labels{s.Labels}, Names: containerNames(s.Names, trunc),
	}
	if s.Health != nil {
		r.HealthStatus = string(s.Health.Status)
	}
	if r.Image == "" {
		r.Image = "<no image>"
	}
	if trunc {
		r.ID = shortID(s.ID)
		r.Command = ellipsis(s.Command, 20)
		if id := shortID(s.ImageID); id == shortID(r.Image) {
			r.Image = id
		}
	}
	r.Command = strconv.Quote(r.Command)
	r.Labels = r.joined()
	var mounts []string
	volumes := 0
	for _, m := range s.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if trunc {
			name = ellipsis(name, 15)
		}
		mounts = append(mounts, name)
		if m.Type == mount.TypeVolume && m.Driver == "local" {
			volumes++
		}
	}
	r.Mounts, r.LocalVolumes = strings.Join(mounts, ","), strconv.Itoa(volumes)
	if s.NetworkSettings != nil {
		r.Networks = strings.Join(sortedKeys(s.NetworkSettings.Networks), ",")
	}
	if d := s.ImageManifestDescriptor; d != nil && d.Platform != nil {
		p := d.Platform.OS + "/" + d.Platform.Architecture
		r.Platform = &p
	}
	return r
}

// addReason adds to the status why it ended. Only a person gets that: programs know docker's words.
func (r *containerRow) addReason() {
	if r.exit != nil && r.exit.Brief != "" {
		r.Status += ": " + r.exit.Brief
	}
}

// containerNames joins names; shortened, only the container's own is left, not those that links gave it.
func containerNames(names []string, trunc bool) string {
	var out []string
	for _, n := range names {
		n = strings.TrimPrefix(n, "/")
		if trunc && strings.Contains(n, "/") {
			continue
		}
		out = append(out, n)
	}
	return strings.Join(out, ",")
}

func containerSize(s *container.Summary) string {
	rw := units.HumanSizeWithPrecision(float64(s.SizeRw), 3)
	if s.SizeRootFs > 0 {
		return fmt.Sprintf("%s (virtual %s)", rw, units.HumanSizeWithPrecision(float64(s.SizeRootFs), 3))
	}
	return rw
}

func ago(d time.Duration) string { return units.HumanDuration(d) + " ago" }
