package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/client"
)

// pruneFlags are those of every prune.
type pruneFlags struct {
	force   bool
	filters filterFlag
	// what says what will be removed.
	what string
	// weightless says that it takes no space on the disk.
	weightless bool
}

func (p *pruneFlags) declare(fs *pflag.FlagSet) {
	fs.BoolVarP(&p.force, "force", "f", false, "Do not ask")
	fs.Var(&p.filters, "filter", "Remove only what matches, as in until=24h")
}

// pruned is what one prune removed.
type pruned struct {
	title string
	lines []string
	space uint64
}

type pruner func(cl *client.Client, q url.Values) (pruned, error)

// prune asks, removes and says what was removed.
func (a *app) prune(p *pruneFlags, do ...pruner) error {
	if !p.force {
		yes, err := a.confirm("WARNING! " + p.what)
		if err != nil || !yes {
			return err
		}
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	q := url.Values{}
	p.filters.addTo(q)
	var space uint64
	var b strings.Builder
	for _, f := range do {
		m := a.measure("Removing what nothing uses", 0)
		r, err := f(cl, q)
		m.end("", err)
		if err != nil {
			return err
		}
		if space += r.space; len(r.lines) > 0 {
			b.WriteString(r.title + "\n" + strings.Join(r.lines, "\n") + "\n\n")
		}
	}
	if p.weightless {
		_, err := io.WriteString(a.out, b.String())
		return err
	}
	return a.printLine(b.String() + "Total reclaimed space: " + units.HumanSize(float64(space)))
}

// confirm asks a yes or no question; anything but yes is no.
func (a *app) confirm(question string) (bool, error) {
	if _, err := fmt.Fprintf(a.out, "%s\nAre you sure you want to continue? [y/N] ", question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && line == "" {
		a.note("")
		return false, &hintedError{err: errors.New("nothing was removed: the question was not answered"), try: "--force"}
	}
	return strings.EqualFold(strings.TrimSpace(line), "y"), nil
}

func pruneContainers(cl *client.Client, q url.Values) (pruned, error) {
	r, err := client.CallJSON[container.PruneReport](cl, client.Post("/containers/prune", q))
	if err != nil {
		return pruned{}, err
	}
	return pruned{"Deleted Containers:", r.ContainersDeleted, r.SpaceReclaimed}, nil
}

func pruneVolumes(cl *client.Client, q url.Values) (pruned, error) {
	r, err := client.CallJSON[volume.PruneReport](cl, client.Post("/volumes/prune", q))
	if err != nil {
		return pruned{}, err
	}
	return pruned{"Deleted Volumes:", r.VolumesDeleted, r.SpaceReclaimed}, nil
}

func pruneNetworks(cl *client.Client, q url.Values) (pruned, error) {
	r, err := client.CallJSON[network.PruneReport](cl, client.Post("/networks/prune", q))
	if err != nil {
		return pruned{}, err
	}
	return pruned{"Deleted Networks:", r.NetworksDeleted, 0}, nil
}

func (a *app) containerPruneCommand() *cobra.Command {
	p := pruneFlags{what: "This removes all containers that do not run."}
	c := &cobra.Command{Use: "prune [OPTIONS]", Args: noArgs}
	p.declare(c.Flags())
	c.RunE = func(*cobra.Command, []string) error { return a.prune(&p, pruneContainers) }
	return c
}

func (a *app) networkPruneCommand() *cobra.Command {
	p := pruneFlags{what: "This removes all networks that no container uses.", weightless: true}
	c := &cobra.Command{Use: "prune [OPTIONS]", Args: noArgs}
	p.declare(c.Flags())
	c.RunE = func(*cobra.Command, []string) error {
		return a.prune(&p, pruneNetworks)
	}
	return c
}

func (a *app) volumePruneCommand() *cobra.Command {
	var all bool
	p := pruneFlags{what: "This removes all nameless volumes that no container uses."}
	c := &cobra.Command{Use: "prune [OPTIONS]", Args: noArgs}
	p.declare(c.Flags())
	c.Flags().BoolVarP(&all, "all", "a", false, "Also volumes with a name")
	c.RunE = func(*cobra.Command, []string) error {
		if all {
			p.what = "This removes all volumes that no container uses."
			if err := p.filters.Set("all=true"); err != nil {
				return err
			}
		}
		return a.prune(&p, pruneVolumes)
	}
	return c
}

func (a *app) systemPruneCommand() *cobra.Command {
	var all, volumes bool
	var p pruneFlags
	c := &cobra.Command{Use: "prune [OPTIONS]", Args: noArgs}
	p.declare(c.Flags())
	c.Flags().BoolVarP(&all, "all", "a", false, "Also images with a name that no container uses")
	c.Flags().BoolVar(&volumes, "volumes", false, "Also nameless volumes")
	c.RunE = func(*cobra.Command, []string) error {
		what := []string{"This removes:", "  - all containers that do not run", "  - all networks that no container uses"}
		do := []pruner{pruneContainers, pruneNetworks}
		if volumes {
			if len(p.filters.values["until"]) > 0 {
				return errors.New(`ERROR: The "until" filter is not supported with "--volumes"`)
			}
			what = append(what, "  - all nameless volumes that no container uses")
			do = append(do, pruneVolumes)
		}
		if all {
			what = append(what, "  - all images that no container uses")
			do = append(do, a.pruneAllImages)
		} else {
			what = append(what, "  - all images without a name that no container uses")
			do = append(do, a.pruneImages)
		}
		if len(p.filters.values["label"]) == 0 && len(p.filters.values["label!"]) == 0 { // The cache has no labels.
			what = append(what, "  - all build cache that no image uses")
			caches := cachePrune{all: all}
			do = append(do, caches.prune)
		}
		p.what = strings.Join(what, "\n")
		return a.prune(&p, do...)
	}
	return c
}

// pruneAllImages is pruneImages with images that have a name.
func (a *app) pruneAllImages(cl *client.Client, q url.Values) (pruned, error) {
	f := filterFlag{}
	if err := f.merge(q.Get("filters")); err != nil {
		return pruned{}, err
	}
	if err := f.Set("dangling=false"); err != nil {
		return pruned{}, err
	}
	own := url.Values{}
	f.addTo(own)
	return a.pruneImages(cl, own)
}
