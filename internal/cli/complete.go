package cli

import (
	"net/url"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// completions says what the arguments of a command name, by the command or by its group and itself.
func completions() map[string]string {
	return map[string]string{
		"attach": "running", "exec": "running", "kill": "running", "pause": "running", "stop": "running", "top": "running", "stats": "running",
		"port": "running", "commit": "container", "diff": "container", "export": "container", "logs": "container", "rename": "container",
		"restart": "container", "rm": "container", "start": "container", "unpause": "container", "update": "container", "wait": "container",
		"inspect": "container", "create": "image", "run": "image", "history": "image", "push": "image", "rmi": "image", "save": "image",
		"tag": "image", "image rm": "image", "image inspect": "image", "image history": "image", "volume rm": "volume", "volume inspect": "volume",
		"volume export": "volume", "volume import": "volume",
		"network rm": "network", "network inspect": "network", "network connect": "network", "network disconnect": "network",
		"volume create": "", "network create": "",
	}
}

// completeArgs lets the shell complete objects that exist. It asks a daemon that runs and starts none.
func (a *app) completeArgs(c *cobra.Command, parent string) {
	all := completions()
	kind, ok := all[strings.TrimPrefix(parent, "kist ")+" "+c.Name()]
	if !ok {
		kind, ok = all[c.Name()]
	}
	if !ok || kind == "" {
		return
	}
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if kind == "image" && len(args) > 0 && (c.Name() == "run" || c.Name() == "create") {
			return nil, cobra.ShellCompDirectiveDefault
		}
		a.globals.noAutostart = true
		cl, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := slices.DeleteFunc(objectNames(cl, kind), func(n string) bool {
			return !strings.HasPrefix(n, begun) || slices.Contains(args, n)
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// objectNames lists what there is of a kind; nothing when the daemon does not answer.
func objectNames(cl *client.Client, kind string) []string {
	var names []string
	switch kind {
	case "running", "container":
		q := url.Values{}
		if kind == "container" {
			q.Set("all", "1")
		}
		if list, err := client.CallJSON[[]container.Summary](cl, client.Get("/containers/json", q)); err == nil {
			for _, c := range *list {
				names = append(names, containerNames(c.Names, true))
			}
		}
	case "image":
		if list, err := client.CallJSON[[]image.Summary](cl, client.Get("/images/json", nil)); err == nil {
			for _, i := range *list {
				names = append(names, i.RepoTags...)
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
