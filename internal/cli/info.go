package cli

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// infoResult is what info prints: the daemon's answer and this program.
type infoResult struct {
	*system.Info
	ClientInfo clientVersion
}

func (a *app) infoCommand() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "info [OPTIONS]", Args: noArgs}
	c.Flags().StringVarP(&format, "format", "f", "", "How to print: json, or a Go template")
	c.RunE = func(*cobra.Command, []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		info, err := client.CallJSON[system.Info](cl, client.Get("/info", nil))
		if err != nil {
			return err
		}
		if format != "" {
			return printRows(a.out, &listing{format: format}, []infoResult{{info, a.thisVersion()}})
		}
		if err := a.printLine(infoText(info, a)); err != nil {
			return err
		}
		for _, w := range info.Warnings {
			a.note(w)
		}
		return nil
	}
	return c
}

// infoText lays the information out as docker does.
func infoText(i *system.Info, a *app) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Client:\n Version:    %s\n Context:    %s\n Debug Mode: %t\n", Version, a.contextName(), a.globals.debug)
	line("Server:\n Containers: %d\n  Running: %d\n  Paused: %d\n  Stopped: %d", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped)
	line(" Images: %d\n Server Version: %s\n Storage Driver: %s", i.Images, i.ServerVersion, i.Driver)
	for _, s := range i.DriverStatus {
		line("  %s: %s", s[0], s[1])
	}
	line(" Logging Driver: %s\n Cgroup Driver: %s", i.LoggingDriver, i.CgroupDriver)
	if i.CgroupVersion != "" {
		line(" Cgroup Version: %s", i.CgroupVersion)
	}
	line(" Plugins:\n  Volume: %s\n  Network: %s\n  Log: %s", strings.Join(i.Plugins.Volume, " "), strings.Join(i.Plugins.Network, " "), strings.Join(i.Plugins.Log, " "))
	if len(i.Runtimes) > 0 {
		line(" Runtimes: %s\n Default Runtime: %s", strings.Join(sortedKeys(i.Runtimes), " "), i.DefaultRuntime)
	}
	if len(i.SecurityOptions) > 0 {
		line(" Security Options:")
		for _, o := range i.SecurityOptions {
			line("  %s", strings.TrimPrefix(o, "name="))
		}
	}
	if f := i.FirewallBackend; f != nil {
		line(" Firewall Backend: %s", f.Driver)
	}
	if len(i.CDISpecDirs) > 0 {
		line(" CDI spec directories:\n  %s", strings.Join(i.CDISpecDirs, "\n  "))
	}
	if len(i.DiscoveredDevices) > 0 {
		line(" Discovered Devices:")
		for _, d := range i.DiscoveredDevices {
			line("  %s: %s", d.Source, d.ID)
		}
	}
	line(" Kernel Version: %s\n Operating System: %s\n OSType: %s\n Architecture: %s", i.KernelVersion, i.OperatingSystem, i.OSType, i.Architecture)
	line(" CPUs: %d\n Total Memory: %s\n Name: %s\n ID: %s", i.NCPU, units.BytesSize(float64(i.MemTotal)), i.Name, i.ID)
	line(" Data Root Dir: %s\n Debug Mode: %t", i.DockerRootDir, i.Debug)
	for _, p := range []struct{ name, value string }{{"HTTP Proxy", i.HTTPProxy}, {"HTTPS Proxy", i.HTTPSProxy}, {"No Proxy", i.NoProxy}} {
		if p.value != "" {
			line(" %s: %s", p.name, p.value)
		}
	}
	if len(i.Labels) > 0 {
		line(" Labels:\n  %s", strings.Join(i.Labels, "\n  "))
	}
	line(" Experimental: %t", i.ExperimentalBuild)
	if r := i.RegistryConfig; r != nil {
		line(" Insecure Registries:")
		for _, name := range sortedKeys(r.IndexConfigs) {
			if !r.IndexConfigs[name].Secure {
				line("  %s", name)
			}
		}
		for _, c := range r.InsecureRegistryCIDRs {
			line("  %s", c)
		}
		if len(r.Mirrors) > 0 {
			line(" Registry Mirrors:\n  %s", strings.Join(r.Mirrors, "\n  "))
		}
	}
	line(" Live Restore Enabled: %t", i.LiveRestoreEnabled)
	return b.String()
}
