package cli

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// updateRequest is docker's, and the ports to publish and to withdraw.
type updateRequest struct {
	container.UpdateConfig
	PublishAdd, PublishRemove network.PortMap `json:",omitempty"`
}

func (a *app) updateCommand() *cobra.Command {
	var (
		f      updateRequest
		add    listFlag
		remove listFlag
		m, r   sizeFlag
		swap   = sizeFlag{unlimited: true}
		kernel sizeFlag
		cpus   cpusFlag
		pids   int64
		policy string
	)
	c := &cobra.Command{Use: "update [OPTIONS] CONTAINER...", Args: atLeast(1)}
	fs := c.Flags()
	fs.Uint16Var(&f.BlkioWeight, "blkio-weight", 0, "Share of block I/O, 10 to 1000, 0 for none")
	fs.Int64Var(&f.CPUPeriod, "cpu-period", 0, "Period of the processor quota, in microseconds")
	fs.Int64Var(&f.CPUQuota, "cpu-quota", 0, "Processor time per period, in microseconds")
	fs.Int64Var(&f.CPURealtimePeriod, "cpu-rt-period", 0, "Period of the realtime quota, in microseconds")
	fs.Int64Var(&f.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Realtime per period, in microseconds")
	fs.Int64VarP(&f.CPUShares, "cpu-shares", "c", 0, "Share of the processors, relative to others")
	fs.Var(&cpus, "cpus", "Number of processors")
	fs.StringVar(&f.CpusetCpus, "cpuset-cpus", "", "Processors it may use (0-3, 0,1)")
	fs.StringVar(&f.CpusetMems, "cpuset-mems", "", "Memory nodes it may use (0-3, 0,1)")
	fs.VarP(&m, "memory", "m", "Most memory it may use")
	fs.Var(&r, "memory-reservation", "Memory it is held to when memory is short")
	fs.Var(&swap, "memory-swap", "Memory and swap together; -1 for no limit on swap")
	fs.Var(&kernel, "kernel-memory", "Not served")
	fs.Lookup("kernel-memory").Hidden = true
	fs.Int64Var(&pids, "pids-limit", 0, "Most processes, -1 for no limit")
	fs.StringVar(&policy, "restart", "", "When to start it again: no, on-failure[:n], always, unless-stopped")
	list(fs, &add, "publish-add", "", "Publish a port of one that runs: [[address:]host port:]port", nil)
	list(fs, &remove, "publish-rm", "", "Withdraw a published port, or all of a container's port", nil)
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().NFlag() == 0 {
			return usageError(c, "%s: give at least one limit to change", c.CommandPath())
		}
		if c.Flags().Changed("kernel-memory") {
			return usageError(c, "--kernel-memory is not served: the kernel no longer has that limit")
		}
		var err error
		if f.RestartPolicy, err = restartPolicy(policy); err != nil {
			return err
		}
		if _, f.PublishAdd, err = publishPorts(add.values, nil); err != nil {
			return err
		}
		if _, f.PublishRemove, err = publishPorts(remove.values, nil); err != nil {
			return err
		}
		f.Memory, f.MemoryReservation, f.MemorySwap, f.NanoCPUs = m.n, r.n, swap.n, int64(cpus)
		if c.Flags().Changed("pids-limit") {
			f.PidsLimit = &pids
		}
		return a.eachContainer(args, func(cl *client.Client, name string) error { return a.updateOne(cl, name, f) })
	}
	return c
}

func (a *app) updateOne(cl *client.Client, name string, u updateRequest) error {
	answer, err := client.Ask[container.UpdateResponse](cl, containerPath(name, "/update"), nil, u)
	if err != nil {
		return err
	}
	for _, w := range answer.Warnings {
		a.note("warning: " + w)
	}
	return nil
}
