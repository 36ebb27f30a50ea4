package cli

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// completions says what the arguments of a command name, by the command or by its group and itself. Kinds that are separated by
// a comma are those of the first argument and of the others.
func completions() map[string]string {
	return map[string]string{
		"attach": "running", "exec": "running,", "kill": "running", "pause": "running", "stop": "running", "top": "running,", "stats": "running",
		"port": "running,", "commit": "container,", "diff": "container,", "export": "container,", "logs": "container,", "rename": "container,",
		"restart": "container", "rm": "container", "start": "stopped", "unpause": "paused", "update": "container", "wait": "running",
		"inspect": "container", "create": "image,", "run": "image,", "history": "image,", "push": "image,", "rmi": "image", "save": "image",
		"tag": "image", "pull": "image,", "move": "movable,context", "images": "repository,",
		"image rm": "image", "image inspect": "image", "image history": "image,", "image tree": "image,",
		"volume rm": "volume", "volume inspect": "volume", "volume export": "volume,", "volume import": "volume,", "volume create": "",
		"network rm": "network", "network inspect": "network", "network connect": "network,container", "network disconnect": "network,container",
		"network create": "",
		"context use":    "context,", "context rm": "context", "context inspect": "context", "context export": "context,", "context update": "context,",
		"context create": "", "context import": "",
	}
}

// flagCompletions says what the values of flags name, on whatever command they are.
func flagCompletions() map[string]string {
	return map[string]string{
		"network": "network", "net": "network", "volumes-from": "container", "context": "context", "device": "device", "volume": "volume", "link": "container",
	}
}

// completeArgs lets the shell complete objects that exist. It asks a daemon that runs and starts none.
func (a *app) completeArgs(c *cobra.Command, parent string) {
	all := completions()
	kinds, ok := all[strings.TrimPrefix(parent, "kist ")+" "+c.Name()]
	if !ok {
		kinds = all[c.Name()]
	}
	if kinds != "" {
		first, others, differ := strings.Cut(kinds, ",")
		c.ValidArgsFunction = func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			kind := first
			if differ && len(args) > 0 {
				kind = others
			}
			if kind == "" {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeKind(kind, begun, args)
		}
	}
	for flag, kind := range flagCompletions() {
		if c.Flags().Lookup(flag) == nil {
			continue
		}
		// It fails only for a flag that is not there.
		_ = c.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			if flag == "volume" && strings.HasPrefix(begun, "/") || flag == "device" && strings.HasPrefix(begun, "/") {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeKind(kind, begun, nil)
		})
	}
}

// completeKind are the objects of a kind that the word begins, but for those that are there.
func (a *app) completeKind(kind, begun string, there []string) ([]string, cobra.ShellCompDirective) {
	names := a.objectsToComplete(kind)
	names = slices.DeleteFunc(names, func(n string) bool {
		return n == "" || strings.ContainsAny(n, "\n\t") || !strings.HasPrefix(n, begun) || slices.Contains(there, n)
	})
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) objectsToComplete(kind string) []string {
	if kind == "context" {
		names := []string{defaultContext}
		if all, err := a.contexts().list(); err == nil {
			for _, c := range all {
				names = append(names, c.Name)
			}
		}
		return names
	}
	a.globals.noAutostart = true
	cl, err := a.client()
	if err != nil {
		return nil
	}
	return objectNames(cl, kind)
}

// completeGlobals takes the flags before the command out of a line to complete, as far as they are whole: the daemon that they
// name is to be asked.
func (a *app) completeGlobals(args []string) []string {
	last := len(args) - 1
	if last < 1 {
		return args
	}
	kept := a.globals
	fs := a.globalFlags() // sets them to what they are without flags
	err := fs.Parse(args[1:last])
	if err != nil || fs.NFlag() == 0 {
		a.globals = kept
	}
	if err != nil {
		return args // its last word is the value of one of them
	}
	return slices.Concat(args[:1], fs.Args(), args[last:])
}

// objectNames lists what there is of a kind; nothing when the daemon does not answer.
func objectNames(cl *client.Client, kind string) []string {
	var names []string
	switch kind {
	case "running", "container", "stopped", "paused":
		for _, c := range containersIn(cl, kind) {
			names = append(names, containerNames(c.Names, true))
		}
	case "image", "repository":
		if list, err := client.CallJSON[[]image.Summary](cl, client.Get("/images/json", nil)); err == nil {
			for _, i := range *list {
				names = append(names, imageWords(i.RepoTags, kind == "repository")...)
			}
		}
	case "movable":
		for _, k := range moveKinds {
			names = append(names, objectNames(cl, k)...)
		}
	case "device":
		if info, err := client.CallJSON[system.Info](cl, client.Get("/info", nil)); err == nil {
			for _, d := range info.DiscoveredDevices {
				names = append(names, d.ID)
			}
		}
	case "volume":
		if list, err := client.CallJSON[volume.ListResponse](cl, client.Get("/volumes", nil)); err == nil {
			for _, v := range list.Volumes {
				names = append(names, v.Name)
			}
		}
	case "network":
		if list, err := client.CallJSON[[]network.Summary](cl, client.Get("/networks", nil)); err == nil {
			for _, n := range *list {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// containersIn are the containers in a state.
func containersIn(cl *client.Client, state string) []container.Summary {
	q := url.Values{}
	var f filterFlag
	var states []string
	switch state {
	case "container":
		q.Set("all", "1")
	case "stopped":
		states = []string{"created", "exited"}
	case "paused":
		states = []string{"paused"}
	}
	for _, one := range states {
		// It fails only for what is no name=value.
		_ = f.Set("status=" + one)
	}
	f.addTo(q)
	list, err := client.CallJSON[[]container.Summary](cl, client.Get("/containers/json", q))
	if err != nil {
		return nil
	}
	return *list
}

// imageWords are the names that a person would type for an image: the tag "latest" need not be.
func imageWords(tags []string, repositories bool) []string {
	var words []string
	for _, t := range tags {
		i := strings.LastIndexByte(t, ':')
		if i < 0 || t == none+":"+none {
			continue
		}
		if repositories || t[i+1:] == "latest" {
			words = append(words, t[:i])
		}
		if !repositories {
			words = append(words, t)
		}
	}
	return words
}

// completeElsewhere hands a line over to the program that knows the rest of it.
func (a *app) completeElsewhere(args []string) {
	if len(args) < 3 || args[1] != "compose" {
		return
	}
	if program, err := findCompose(); err == nil {
		argv := slices.Concat([]string{program}, a.globals.arguments(), args[:1], args[2:])
		// Where it cannot be run, nothing is completed.
		_ = syscall.Exec(program, argv, os.Environ())
	}
}
