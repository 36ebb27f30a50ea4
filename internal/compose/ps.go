package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
)

type psFlags struct {
	all, quiet, services, noTrunc bool
	orphans                       bool
	format, filter                string
	status                        []string
}

// psRow is a line of ps. The order of its fields is that of its JSON.
type psRow struct {
	Command      string
	CreatedAt    string
	ExitCode     int
	Health       string
	ID           string
	Image        string
	Labels       string
	LocalVolumes string
	Mounts       string
	Name         string
	Names        string
	Networks     string
	Ports        string
	Project      string
	Publishers   []publisher
	RunningFor   string
	Service      string
	Size         string
	State        string
	Status       string
}

// publisher is a published port.
type publisher struct {
	URL           string
	TargetPort    uint16
	PublishedPort uint16
	Protocol      string
}

const psTable = "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}"

var psTitles = map[string]string{
	"Name": "NAME", "Image": "IMAGE", "Command": "COMMAND", "Service": "SERVICE", "RunningFor": "CREATED", "Status": "STATUS", "Ports": "PORTS",
	"ID": "CONTAINER ID", "State": "STATE", "Health": "HEALTH", "ExitCode": "EXIT CODE", "Project": "PROJECT", "Names": "NAMES",
	"Labels": "LABELS", "Mounts": "MOUNTS", "Networks": "NETWORKS", "CreatedAt": "CREATED AT", "Size": "SIZE", "LocalVolumes": "LOCAL VOLUMES",
}

func (s *stack) psCommand() *cobra.Command {
	var f psFlags
	c := &cobra.Command{Use: "ps [OPTIONS] [SERVICE...]", Short: "List containers"}
	fs := c.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "Also containers that do not run, and those of run")
	fs.StringVar(&f.filter, "filter", "", "Only what matches, as in status=exited")
	fs.StringVar(&f.format, "format", "", "How to print: table, json, table TEMPLATE or a Go template")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Do not shorten anything")
	fs.BoolVar(&f.orphans, "orphans", true, "Also of services that the file no longer has")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print ids only")
	fs.BoolVar(&f.services, "services", false, "Print services only")
	fs.StringArrayVar(&f.status, "status", nil, "Only those in a state: running, exited, ...")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if f.filter != "" {
			key, value, ok := strings.Cut(f.filter, "=")
			if !ok || key != "status" {
				return fmt.Errorf("invalid --filter %q: only status=STATE is known", f.filter)
			}
			f.status = append(f.status, value)
		}
		if err := s.openNamed(args...); err != nil {
			return err
		}
		return s.ps(&f, args)
	}
	return c
}

func (s *stack) ps(f *psFlags, services []string) error {
	all, err := s.containers()
	if err != nil {
		return err
	}
	if err := s.known(all, services); err != nil {
		return err
	}
	all = all.of(services...).which(func(c *found) bool {
		switch {
		case len(f.status) > 0:
			return slices.Contains(f.status, string(c.State))
		case !f.orphans && s.project != nil && !slices.Contains(s.project.ServiceNames(), c.service()):
			return false
		case f.all:
			return true
		}
		return c.running()
	})
	slices.SortFunc(all, func(a, b *found) int { return strings.Compare(a.name(), b.name()) })
	switch {
	case f.quiet:
		for _, c := range all {
			fmt.Println(c.ID)
		}
		return nil
	case f.services:
		for _, name := range all.services() {
			fmt.Println(name)
		}
		return nil
	}
	rows := make([]psRow, len(all))
	for i, c := range all {
		rows[i] = rowOf(c, !f.noTrunc)
	}
	return cli.PrintRows(s.tool, cli.Rows{Format: f.format, Table: psTable, Titles: psTitles}, rows)
}

func rowOf(c *found, trunc bool) psRow {
	created := time.Unix(c.Created, 0)
	r := psRow{
		ID: c.ID, Name: c.name(), Names: c.name(), Image: c.Image, Command: c.Command, Service: c.service(), Project: c.Labels["com.docker.compose.project"],
		RunningFor: cli.Ago(time.Since(created)), CreatedAt: created.String(), Status: c.Status, State: string(c.State),
		Ports: cli.FormatPorts(c.Ports), Size: "0B", Publishers: publishers(c.Ports), ExitCode: exitCode(c.Status),
	}
	if trunc {
		r.Command = cli.Ellipsis(r.Command, 20)
	}
	r.Command = fmt.Sprintf("%q", r.Command)
	if c.Health != nil && c.Health.Status != container.NoHealthcheck {
		r.Health = string(c.Health.Status)
	}
	var labels, mounts []string
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		labels = append(labels, k+"="+c.Labels[k])
	}
	volumes := 0
	for _, m := range c.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		} else {
			volumes++
		}
		mounts = append(mounts, name)
	}
	r.Labels, r.Mounts, r.LocalVolumes = strings.Join(labels, ","), strings.Join(mounts, ","), itoa(volumes)
	if c.NetworkSettings != nil {
		r.Networks = strings.Join(slices.Sorted(maps.Keys(c.NetworkSettings.Networks)), ",")
	}
	return r
}

func publishers(ports []container.PortSummary) []publisher {
	out := []publisher{}
	for _, p := range ports {
		url := ""
		if p.IP.IsValid() {
			url = p.IP.String()
		}
		out = append(out, publisher{url, p.PrivatePort, p.PublicPort, p.Type})
	}
	return out
}

// exitCode is in the status: "Exited (3) 2 minutes ago".
func exitCode(status string) int {
	var n int
	if _, err := fmt.Sscanf(status, "Exited (%d)", &n); err != nil {
		return 0
	}
	return n
}
