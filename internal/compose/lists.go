package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
)

func (s *stack) topCommand() *cobra.Command {
	c := &cobra.Command{Use: "top [SERVICE...]", Short: "List the processes in containers"}
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, true)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 1, 3, ' ', 0)
		titled := false
		for _, c := range f.which((*found).running) {
			r, err := client.CallJSON[container.TopResponse](s.cl, client.Get(path(c.ID, "/top"), nil))
			if err != nil {
				return fmt.Errorf("%s: %w", c.short(), err)
			}
			if !titled {
				fmt.Fprintln(w, "SERVICE\t#\t"+strings.Join(r.Titles, "\t"))
				titled = true
			}
			for _, p := range r.Processes {
				fmt.Fprintln(w, c.service()+"\t"+itoa(c.number())+"\t"+strings.Join(p, "\t"))
			}
		}
		return w.Flush()
	})
	return c
}

// imageRow is a line of images.
type imageRow struct {
	ID            string
	ContainerName string
	Repository    string
	Tag           string
	Platform      string
	Size          string
	Created       string
}

func (s *stack) imagesCommand() *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{Use: "images [OPTIONS] [SERVICE...]", Short: "List the images of containers"}
	c.Flags().StringVar(&format, "format", "", "How to print: table, json, table TEMPLATE or a Go template")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		var rows []imageRow
		for _, c := range f {
			in, err := s.image(c.ImageID)
			if cli.ImageMissing(err) {
				in, err = s.image(c.Image)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.short(), err)
			}
			r := imageRow{ContainerName: c.name(), ID: cli.ShortID(in.ID), Size: units.HumanSizeWithPrecision(float64(in.Size), 3), Platform: in.Os + "/" + in.Architecture}
			r.Repository, r.Tag = c.Image, "<none>"
			if i := strings.LastIndexByte(c.Image, ':'); i > strings.LastIndexByte(c.Image, '/') && !strings.HasPrefix(c.Image, "sha256:") {
				r.Repository, r.Tag = c.Image[:i], c.Image[i+1:]
			} else if !strings.HasPrefix(c.Image, "sha256:") {
				r.Tag = "latest"
			}
			if t, err := time.Parse(time.RFC3339Nano, in.Created); err == nil {
				r.Created = cli.Ago(time.Since(t))
			}
			rows = append(rows, r)
		}
		if quiet {
			var ids []string
			for _, r := range rows {
				if !slices.Contains(ids, r.ID) {
					ids = append(ids, r.ID)
					fmt.Println(r.ID)
				}
			}
			return nil
		}
		return cli.PrintRows(s.tool, cli.Rows{
			Format: format, Table: "{{.ContainerName}}\t{{.Repository}}\t{{.Tag}}\t{{.Platform}}\t{{.ID}}\t{{.Size}}\t{{.Created}}",
			Titles: map[string]string{
				"ContainerName": "CONTAINER", "Repository": "REPOSITORY", "Tag": "TAG", "Platform": "PLATFORM", "ID": "IMAGE ID", "Size": "SIZE", "Created": "CREATED",
			},
		}, rows)
	})
	return c
}

func (s *stack) portCommand() *cobra.Command {
	var protocol string
	var index int
	c := &cobra.Command{Use: "port [OPTIONS] SERVICE PRIVATE_PORT", Short: "Show where a port is published", Args: cobra.ExactArgs(2)}
	c.Flags().StringVar(&protocol, "protocol", "tcp", "tcp or udp")
	c.Flags().IntVar(&index, "index", 0, "Number of the container, if the service has several")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.openNamed(args[0]); err != nil {
			return err
		}
		one, err := s.one(args[0], index, true)
		if err != nil {
			return err
		}
		p, err := network.ParsePort(args[1] + "/" + protocol)
		if err != nil {
			return err
		}
		for _, b := range one.Ports {
			if b.PrivatePort == p.Num() && b.Type == protocol && b.PublicPort != 0 {
				host := b.IP.String()
				if b.IP.Is6() {
					host = "[" + host + "]"
				}
				_, err := fmt.Printf("%s:%d\n", host, b.PublicPort)
				return err
			}
		}
		return cli.Hinted(fmt.Errorf("port %s of %s is not published", p, one.short()), "kist compose ps "+args[0])
	}
	return c
}

func (s *stack) eventsCommand() *cobra.Command {
	var asJSON bool
	var since, until string
	c := &cobra.Command{Use: "events [OPTIONS] [SERVICE...]", Short: "Follow what happens to containers"}
	c.Flags().BoolVar(&asJSON, "json", false, "Print each as JSON")
	c.Flags().StringVar(&since, "since", "", "Begin at a time, or 42m ago")
	c.Flags().StringVar(&until, "until", "", "End at a time, or 42m ago")
	c.RunE = s.verb(func(args []string) error {
		q, err := s.ofProject()
		if err != nil {
			return err
		}
		if err := cli.Between(q, since, until); err != nil {
			return err
		}
		return s.follow(q, args, asJSON)
	})
	return c
}

// follow prints the containers' events.
func (s *stack) follow(q url.Values, services []string, asJSON bool) error {
	resp, err := s.cl.Do(client.Get("/events", q))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var m events.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the daemon's events: %w", err)
		}
		service := m.Actor.Attributes[model.LabelService]
		if m.Type != events.ContainerEventType || strings.EqualFold(m.Actor.Attributes[model.LabelOneOff], "true") || len(services) > 0 && !slices.Contains(services, service) {
			continue
		}
		if err := printEvent(&m, service, asJSON); err != nil {
			return err
		}
	}
}

func printEvent(m *events.Message, service string, asJSON bool) error {
	at := time.Unix(0, m.TimeNano)
	attributes := map[string]string{}
	for k, v := range m.Actor.Attributes {
		if !strings.HasPrefix(k, "com.docker.compose.") {
			attributes[k] = v
		}
	}
	if asJSON {
		raw, err := json.Marshal(map[string]any{
			"time": at.Format(time.RFC3339Nano), "type": "container", "service": service, "id": m.Actor.ID, "action": m.Action, "attributes": attributes,
		})
		if err != nil {
			return err
		}
		_, err = fmt.Println(string(raw))
		return err
	}
	var list []string
	for k, v := range attributes {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	_, err := fmt.Printf("%s container %s %s (%s)\n", at.Format("2006-01-02 15:04:05.000000"), m.Action, m.Actor.ID, strings.Join(list, ", "))
	return err
}

// projectRow is a line of ls.
type projectRow struct {
	Name        string
	Status      string
	ConfigFiles string
}

func (s *stack) lsCommand() *cobra.Command {
	var all, quiet bool
	var format, filter string
	c := &cobra.Command{Use: "ls [OPTIONS]", Short: "List projects", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().BoolVarP(&all, "all", "a", false, "Also those without a running container")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	c.Flags().StringVar(&format, "format", "", "How to print: table, json, table TEMPLATE or a Go template")
	c.Flags().StringVar(&filter, "filter", "", "Only what matches: name=NAME")
	c.RunE = func(*cobra.Command, []string) error {
		if err := s.connect(); err != nil {
			return err
		}
		q, err := filters(map[string][]string{"label": {model.LabelProject, model.LabelHash}})
		if err != nil {
			return err
		}
		q.Set("all", "1")
		f, err := s.look(q)
		if err != nil {
			return err
		}
		rows := projects(f, all, strings.TrimPrefix(filter, "name="))
		switch {
		case quiet:
			for _, r := range rows {
				fmt.Println(r.Name)
			}
			return nil
		case format == "json":
			raw, err := json.Marshal(rows)
			if err != nil {
				return err
			}
			_, err = fmt.Println(string(raw))
			return err
		}
		return cli.PrintRows(s.tool, cli.Rows{
			Format: format, Table: "{{.Name}}\t{{.Status}}\t{{.ConfigFiles}}",
			Titles: map[string]string{"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"},
		}, rows)
	}
	return c
}

// projects sums containers up by project: "running(2), exited(1)".
func projects(f fleet, all bool, name string) []projectRow {
	rows := []projectRow{}
	byName := map[string]fleet{}
	for _, c := range f.serving() {
		p := c.Labels[model.LabelProject]
		byName[p] = append(byName[p], c)
	}
	for p, list := range byName {
		if !strings.Contains(p, name) || !all && !slices.ContainsFunc(list, (*found).running) {
			continue
		}
		counts := map[string]int{}
		r := projectRow{Name: p}
		for _, c := range list {
			counts[string(c.State)]++
			r.ConfigFiles = c.Labels[model.LabelFiles]
		}
		var parts []string
		for state, n := range counts {
			parts = append(parts, fmt.Sprintf("%s(%d)", state, n))
		}
		slices.Sort(parts)
		r.Status = strings.Join(parts, ", ")
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b projectRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

func (s *stack) volumesCommand() *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{Use: "volumes [OPTIONS] [SERVICE...]", Short: "List the project's volumes"}
	c.Flags().StringVar(&format, "format", "", "How to print: table, json, table TEMPLATE or a Go template")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	c.RunE = s.verb(func(args []string) error {
		vols, err := s.volumes()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			f, err := s.chosen(args, false)
			if err != nil {
				return err
			}
			vols = slices.DeleteFunc(vols, func(v volume.Volume) bool {
				return !slices.ContainsFunc(f, func(c *found) bool {
					return slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return m.Name == v.Name })
				})
			})
		}
		slices.SortFunc(vols, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) })
		if quiet {
			for _, v := range vols {
				fmt.Println(v.Name)
			}
			return nil
		}
		return cli.PrintRows(s.tool, cli.Rows{Format: format, Table: "{{.Driver}}\t{{.Name}}", Titles: map[string]string{"Driver": "DRIVER", "Name": "VOLUME NAME"}}, vols)
	})
	return c
}
