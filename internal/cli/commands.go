package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

// entry is a command that is built when it is needed.
type entry struct {
	// names are what it is called; the first is shown.
	names []string
	short string
	// new makes the command; nil for a group.
	new func() *cobra.Command
	// sub are a group's commands.
	sub []entry
	// hidden commands are not listed.
	hidden bool
	// heading is the part of the listing that it belongs to.
	heading string
}

// Headings of the listing.
const (
	headCommon = "Everyday commands"
	headGroup  = "By object"
	headOther  = "Further commands"
)

func find(entries []entry, name string) (entry, bool) {
	for _, e := range entries {
		if slices.Contains(e.names, name) {
			return e, true
		}
	}
	return entry{}, false
}

// build adds the command to its parent; of a group only what args name, or all.
func (e entry) build(a *app, parent *cobra.Command, args []string) {
	if e.new != nil {
		c := e.new()
		c.Short, c.Hidden = e.short, e.hidden
		c.Use = e.names[0] + restOf(c.Use)
		c.Aliases = e.names[1:]
		c.DisableFlagsInUseLine = true
		if c.Flags().Lookup("help") == nil {
			c.Flags().Bool("help", false, "Print this help")
		}
		if a.completing {
			a.completeArgs(c, parent.CommandPath())
		}
		parent.AddCommand(c)
		return
	}
	group := &cobra.Command{
		Use: e.names[0], Short: e.short, Aliases: e.names[1:], Hidden: e.hidden, DisableFlagsInUseLine: true, Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(c.CommandPath(), args[0], e.sub)
			}
			return c.Help()
		},
	}
	group.Flags().Bool("help", false, "Print this help")
	parent.AddCommand(group)
	if len(args) > 0 {
		if s, ok := find(e.sub, args[0]); ok {
			s.build(a, group, args[1:])
			return
		}
	}
	for _, s := range e.sub {
		s.build(a, group, nil)
	}
}

// restOf is a usage line without its first word.
func restOf(use string) string {
	for i := range len(use) {
		if use[i] == ' ' {
			return use[i:]
		}
	}
	return ""
}

// entries lists all commands.
func (a *app) entries() []entry {
	return slices.Concat(a.everyday(), a.groups(), a.further())
}

func (a *app) everyday() []entry {
	return under(headCommon, []entry{
		{names: []string{"run"}, short: "Make a container from an image and start it", new: a.runCommand},
		{names: []string{"exec"}, short: "Run a further command in a running container", new: a.execCommand},
		{names: []string{"ps"}, short: "List containers", new: a.psCommand},
		{names: []string{"build"}, short: "Build an image from a Dockerfile", new: a.buildCommand},
		{names: []string{"compose"}, short: "Run the services of a Compose file", new: a.composeCommand},
		{names: []string{"pull"}, short: "Fetch an image from a registry", new: a.pullCommand},
		{names: []string{"push"}, short: "Send an image to a registry", new: a.pushCommand},
		{names: []string{"images"}, short: "List images", new: a.imagesCommand},
		{names: []string{"logs"}, short: "Show what a container printed", new: a.logsCommand},
		{names: []string{"stop"}, short: "Stop containers", new: a.stopCommand},
		{names: []string{"rm"}, short: "Remove containers", new: a.rmCommand},
		{names: []string{"login"}, short: "Keep the credentials for a registry", new: a.loginCommand},
		{names: []string{"logout"}, short: "Forget the credentials for a registry", new: a.logoutCommand},
		{names: []string{"search"}, short: "Search a registry for images", new: a.searchCommand, hidden: true},
		{names: []string{"version"}, short: "Show the versions of kist and its daemon", new: a.versionCommand},
		{names: []string{"info"}, short: "Show the state of the daemon and its host", new: a.infoCommand},
	})
}

func (a *app) further() []entry {
	return under(headOther, slices.Concat(a.containerVerbs(), []entry{
		{names: []string{"events"}, short: "Follow what happens in the daemon", new: a.eventsCommand},
		{names: []string{"history"}, short: "Show the steps an image was made of", new: a.historyCommand},
		{names: []string{"import"}, short: "Make an image of a root file system's tar", new: a.importCommand},
		{names: []string{"inspect"}, short: "Show everything known about an object", new: a.inspectCommand},
		{names: []string{"load"}, short: "Load images from an archive", new: a.loadCommand},
		{names: []string{"move"}, short: "Move images, volumes and containers to another host", new: a.moveCommand},
		{names: []string{"rmi"}, short: "Remove images", new: a.rmiCommand},
		{names: []string{"save"}, short: "Write images to an archive", new: a.saveCommand},
		{names: []string{"tag"}, short: "Give an image a further name", new: a.tagCommand},
		{names: []string{"doctor"}, short: "Examine this host and what kist keeps on it", new: a.doctorCommand},
		{names: []string{"completion"}, short: "Print a script that lets a shell complete commands and names", sub: a.completionCommands()},
		{names: []string{"daemon"}, short: "Say how the daemon is run", new: a.daemonCommand},
	}))
}

// containerVerbs are the container commands that are no everyday ones.
func (a *app) containerVerbs() []entry {
	return []entry{
		{names: []string{"attach"}, short: "Join the terminal to a running container", new: a.attachCommand},
		{names: []string{"commit"}, short: "Make an image of a container's changes", new: a.commitCommand},
		{names: []string{"cp"}, short: "Copy files between a container and this machine", new: a.cpCommand},
		{names: []string{"create"}, short: "Make a container without starting it", new: a.createCommand},
		{names: []string{"diff"}, short: "List the files that a container changed", new: a.diffCommand},
		{names: []string{"export"}, short: "Write a container's files as a tar archive", new: a.exportCommand},
		{names: []string{"kill"}, short: "Send a signal to containers", new: a.killCommand},
		{names: []string{"pause"}, short: "Freeze all processes of containers", new: a.pauseCommand},
		{names: []string{"port"}, short: "Show where a container's ports are published", new: a.portCommand},
		{names: []string{"rename"}, short: "Rename a container", new: a.renameCommand},
		{names: []string{"restart"}, short: "Stop containers and start them again", new: a.restartCommand},
		{names: []string{"start"}, short: "Start stopped containers", new: a.startCommand},
		{names: []string{"stats"}, short: "Show what containers use, as it changes", new: a.statsCommand},
		{names: []string{"top"}, short: "List a container's processes", new: a.topCommand},
		{names: []string{"unpause"}, short: "Let frozen containers go on", new: a.unpauseCommand},
		{names: []string{"update"}, short: "Change the limits of containers", new: a.updateCommand},
		{names: []string{"wait"}, short: "Wait until containers stop and print their exit codes", new: a.waitCommand},
	}
}

func (a *app) groups() []entry {
	return under(headGroup, []entry{
		{names: []string{"container"}, short: "Commands for containers", sub: slices.Concat([]entry{
			{names: []string{"exec"}, short: "Run a further command in a running container", new: a.execCommand},
			{names: []string{"inspect"}, short: "Show everything known about containers", new: a.inspectKind("container")},
			{names: []string{"logs"}, short: "Show what a container printed", new: a.logsCommand},
			{names: []string{"ls", "list", "ps"}, short: "List containers", new: a.psCommand},
			{names: []string{"prune"}, short: "Remove all stopped containers", new: a.containerPruneCommand},
			{names: []string{"rm", "remove"}, short: "Remove containers", new: a.rmCommand},
			{names: []string{"run"}, short: "Make a container from an image and start it", new: a.runCommand},
			{names: []string{"stop"}, short: "Stop containers", new: a.stopCommand},
		}, a.containerVerbs())},
		{names: []string{"image"}, short: "Commands for images", sub: []entry{
			{names: []string{"bootstrap"}, short: "Make a base image of a distribution's own packages", new: a.bootstrapCommand},
			{names: []string{"build"}, short: "Build an image from a Dockerfile", new: a.buildCommand},
			{names: []string{"history"}, short: "Show the steps an image was made of", new: a.historyCommand},
			{names: []string{"import"}, short: "Make an image of a root file system's tar", new: a.importCommand},
			{names: []string{"inspect"}, short: "Show everything known about images", new: a.inspectKind("image")},
			{names: []string{"load"}, short: "Load images from an archive", new: a.loadCommand},
			{names: []string{"ls", "list"}, short: "List images", new: a.imagesCommand},
			{names: []string{"prune"}, short: "Remove images that nothing uses", new: a.imagePruneCommand},
			{names: []string{"pull"}, short: "Fetch an image from a registry", new: a.pullCommand},
			{names: []string{"push"}, short: "Send an image to a registry", new: a.pushCommand},
			{names: []string{"rm", "remove"}, short: "Remove images", new: a.rmiCommand},
			{names: []string{"save"}, short: "Write images to an archive", new: a.saveCommand},
			{names: []string{"tag"}, short: "Give an image a further name", new: a.tagCommand},
			{names: []string{"tree"}, short: "Show images, or one, as a picture of layers", new: a.imageTreeCommand},
		}},
		{names: []string{"builder"}, short: "Commands for builds and their cache", sub: a.builderCommands()},
		{names: []string{"buildx"}, short: "Commands for builds and their cache", sub: a.builderCommands(), hidden: true},
		{names: []string{"volume"}, short: "Commands for volumes", sub: []entry{
			{names: []string{"create"}, short: "Make a volume", new: a.volumeCreateCommand},
			{names: []string{"export"}, short: "Write a volume's files to an archive", new: a.volumeExportCommand},
			{names: []string{"import"}, short: "Fill a volume from an archive", new: a.volumeImportCommand},
			{names: []string{"inspect"}, short: "Show everything known about volumes", new: a.inspectKind("volume")},
			{names: []string{"ls", "list"}, short: "List volumes", new: a.volumeListCommand},
			{names: []string{"prune"}, short: "Remove volumes that nothing uses", new: a.volumePruneCommand},
			{names: []string{"rm", "remove"}, short: "Remove volumes", new: a.volumeRemoveCommand},
		}},
		{names: []string{"network"}, short: "Commands for networks", sub: []entry{
			{names: []string{"connect"}, short: "Connect a container to a network", new: a.networkConnectCommand},
			{names: []string{"create"}, short: "Make a network", new: a.networkCreateCommand},
			{names: []string{"disconnect"}, short: "Disconnect a container from a network", new: a.networkDisconnectCommand},
			{names: []string{"inspect"}, short: "Show everything known about networks", new: a.inspectKind("network")},
			{names: []string{"ls", "list"}, short: "List networks", new: a.networkListCommand},
			{names: []string{"prune"}, short: "Remove networks that nothing uses", new: a.networkPruneCommand},
			{names: []string{"rm", "remove"}, short: "Remove networks", new: a.networkRemoveCommand},
		}},
		{names: []string{"registry"}, short: "Commands for this machine as a registry", sub: []entry{
			{names: []string{"serve"}, short: "Let others pull from this machine and push to it", new: a.registryServeCommand},
		}},
		{names: []string{"system"}, short: "Commands for the daemon as a whole", sub: []entry{
			{names: []string{"df"}, short: "Show what uses the disk", new: a.dfCommand},
			{names: []string{"dial-stdio"}, short: "Join standard input and output to the daemon's socket", new: a.dialStdioCommand, hidden: true},
			{names: []string{"events"}, short: "Follow what happens in the daemon", new: a.eventsCommand},
			{names: []string{"info"}, short: "Show the state of the daemon and its host", new: a.infoCommand},
			{names: []string{"prune"}, short: "Remove everything that nothing uses", new: a.systemPruneCommand},
		}},
		{names: []string{"context"}, short: "Commands for daemons' addresses", sub: []entry{
			{names: []string{"create"}, short: "Keep a daemon's address under a name", new: a.contextCreateCommand},
			{names: []string{"export"}, short: "Write a context to an archive", new: a.contextExportCommand},
			{names: []string{"import"}, short: "Read a context from an archive", new: a.contextImportCommand},
			{names: []string{"inspect"}, short: "Show everything known about contexts", new: a.contextInspectCommand},
			{names: []string{"ls", "list"}, short: "List contexts", new: a.contextListCommand},
			{names: []string{"rm", "remove"}, short: "Remove contexts", new: a.contextRemoveCommand},
			{names: []string{"show"}, short: "Print the context's name", new: a.contextShowCommand},
			{names: []string{"update"}, short: "Change a context", new: a.contextUpdateCommand},
			{names: []string{"use"}, short: "Choose a context", new: a.contextUseCommand},
		}},
	})
}

func (a *app) builderCommands() []entry {
	return []entry{
		{names: []string{"build", "b"}, short: "Build an image from a Dockerfile", new: a.buildCommand},
		{names: []string{"du"}, short: "Show what the build cache holds", new: a.cacheListCommand},
		{names: []string{"mounts"}, short: "Commands for cache mounts (RUN --mount=type=cache)", sub: a.cacheMountCommands()},
		{names: []string{"prune"}, short: "Remove build cache", new: a.builderPruneCommand},
	}
}

func under(heading string, entries []entry) []entry {
	for i := range entries {
		entries[i].heading = heading
	}
	return entries
}
