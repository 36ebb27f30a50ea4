package cli

import (
	"time"

	"github.com/spf13/pflag"
)

// containerFlags are the flags that run and create have in common, as they were given.
type containerFlags struct {
	endpoint                                                          endpointFlags
	attach, volumes, tmpfs, env, envFile, labels, labelFile           listFlag
	devices, deviceRules, groupAdd, securityOpt, storageOpt, logOpt   listFlag
	publish, expose, dns, dnsOption, dnsSearch, extraHosts            listFlag
	volumesFrom, capAdd, capDrop                                      listFlag
	secrets                                                           listFlag
	umask                                                             umaskFlag
	annotations, sysctls                                              mapFlag
	weights                                                           weightFlag
	readBps, writeBps, readIOps, writeIOps                            rateFlag
	ulimits                                                           ulimitFlag
	mounts                                                            mountFlag
	networks                                                          networkFlag
	gpus                                                              gpusFlag
	memory, reservation, swap, shm                                    sizeFlag
	cpus                                                              cpusFlag
	blkioWeight                                                       uint16
	cpuShares, cpuPeriod, cpuQuota, cpuRTPeriod, cpuRTRuntime         int64
	swappiness, pidsLimit                                             int64
	cpusetCpus, cpusetMems, cgroupParent, cgroupns, cidfile           string
	domainname, entrypoint, hostname, ipc, isolation, logDriver       string
	name, pid, platform, pull, restart, runtime, stopSignal           string
	user, userns, uts, volumeDriver, workdir                          string
	healthCmd                                                         string
	healthInterval, healthTimeout, healthStartPeriod, healthStartIntv time.Duration
	healthRetries, oomScore, stopTimeout                              int
	init, noHealth, oomKillDisable, privileged, publishAll            bool
	quiet, readOnly, rm, stdin, tty, untrusted, apiSocket             bool
}

// declare adds the flags to a command's.
func (f *containerFlags) declare(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	f.declareProcess(fs)
	f.declareFiles(fs)
	f.declareNetwork(fs)
	f.declareLimits(fs)
	f.declareRefused(fs)
}

func list(fs *pflag.FlagSet, l *listFlag, name, short, help string, check func(string) (string, error)) {
	l.check = check
	fs.VarP(l, name, short, help)
}

func (f *containerFlags) declareProcess(fs *pflag.FlagSet) {
	list(fs, &f.attach, "attach", "a", "Show only these: stdin, stdout, stderr", checkAttach)
	fs.Var(&f.annotations, "annotation", "Annotation for the OCI runtime")
	list(fs, &f.capAdd, "cap-add", "", "Give a capability", nil)
	list(fs, &f.capDrop, "cap-drop", "", "Take a capability away", nil)
	fs.StringVar(&f.cidfile, "cidfile", "", "File to write the container's id to")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Program to run instead of the image's entry point")
	list(fs, &f.env, "env", "e", "Set a variable: NAME=value, or NAME to pass on this shell's", nil)
	list(fs, &f.envFile, "env-file", "", "Set the variables listed in a file", nil)
	list(fs, &f.groupAdd, "group-add", "", "Add the process to a further group", nil)
	fs.StringVar(&f.healthCmd, "health-cmd", "", "Command that tells whether the application is healthy")
	fs.DurationVar(&f.healthInterval, "health-interval", 0, "Time between checks (ms|s|m|h)")
	fs.IntVar(&f.healthRetries, "health-retries", 0, "Failures in a row that mean unhealthy")
	fs.DurationVar(&f.healthStartIntv, "health-start-interval", 0, "Time between checks while it starts (ms|s|m|h)")
	fs.DurationVar(&f.healthStartPeriod, "health-start-period", 0, "Time in which failures do not count (ms|s|m|h)")
	fs.DurationVar(&f.healthTimeout, "health-timeout", 0, "Longest time for one check (ms|s|m|h)")
	fs.BoolVar(&f.init, "init", false, "Run a small init as process 1 that passes signals on and reaps processes")
	fs.BoolVarP(&f.stdin, "interactive", "i", false, "Keep standard input open")
	fs.StringVar(&f.ipc, "ipc", "", "IPC namespace: none, private, shareable, host or container:NAME")
	fs.StringVar(&f.isolation, "isolation", "", "Kind of isolation")
	list(fs, &f.labels, "label", "l", "Set a label: name=value", checkLabel)
	list(fs, &f.labelFile, "label-file", "", "Set the labels listed in a file", nil)
	fs.StringVar(&f.logDriver, "log-driver", "", "What writes the log: json-file, local or none")
	list(fs, &f.logOpt, "log-opt", "", "Option for the log driver: name=value", nil)
	fs.StringVar(&f.name, "name", "", "The container's name")
	fs.BoolVar(&f.noHealth, "no-healthcheck", false, "Leave the image's health check out")
	fs.StringVar(&f.pid, "pid", "", "PID namespace: host or container:NAME")
	fs.StringVar(&f.platform, "platform", "", "Platform of the image: os/architecture")
	fs.BoolVar(&f.privileged, "privileged", false, "Give every right over the host")
	fs.StringVar(&f.pull, "pull", "missing", "When to pull the image: always, missing or never")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Do not show the pull's progress")
	fs.StringVar(&f.restart, "restart", "no", "When to start it again: no, on-failure[:n], always, unless-stopped")
	fs.BoolVar(&f.rm, "rm", false, "Remove the container and its nameless volumes when it ends")
	fs.StringVar(&f.runtime, "runtime", "", "OCI runtime to use")
	list(fs, &f.secrets, "secret", "", "File in memory: id=NAME,src=FILE|env=VARIABLE[,target=PATH][,mode=0400][,uid=N][,gid=N]", nil)
	list(fs, &f.securityOpt, "security-opt", "", "Security option, as in seccomp=FILE", nil)
	fs.StringVar(&f.stopSignal, "stop-signal", "", "Signal that stops the container")
	fs.IntVar(&f.stopTimeout, "stop-timeout", 0, "Seconds between that signal and the kill")
	fs.BoolVarP(&f.tty, "tty", "t", false, "Give it a terminal")
	fs.StringVarP(&f.user, "user", "u", "", "User and group: name|uid[:group|gid]")
	fs.StringVar(&f.userns, "userns", "", "User namespace: host")
	fs.StringVar(&f.uts, "uts", "", "UTS namespace: host")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Directory to run in")
}

func (f *containerFlags) declareFiles(fs *pflag.FlagSet) {
	list(fs, &f.devices, "device", "", "Give it a device of the host: path[:path[:rwm]]", nil)
	list(fs, &f.deviceRules, "device-cgroup-rule", "", "Allow devices by number, as in 'c 1:3 rwm'", checkDeviceRule)
	fs.Var(&f.gpus, "gpus", "GPUs to give it: all, a number, or device=...")
	fs.Var(&f.mounts, "mount", "Mount: type=bind|volume|tmpfs|image,source=...,target=...")
	fs.BoolVar(&f.readOnly, "read-only", false, "Mount the root file system read-only")
	f.shm = sizeFlag{}
	fs.Var(&f.shm, "shm-size", "Size of /dev/shm")
	list(fs, &f.storageOpt, "storage-opt", "", "Storage option, as in size=10G", nil)
	list(fs, &f.tmpfs, "tmpfs", "", "Mount an empty file system in memory: path[:options]", nil)
	list(fs, &f.volumes, "volume", "v", "Mount a volume or directory: [source:]path[:options]", nil)
	fs.StringVar(&f.volumeDriver, "volume-driver", "", "Driver of its volumes")
	list(fs, &f.volumesFrom, "volumes-from", "", "Mount the volumes of another container", nil)
}

func (f *containerFlags) declareNetwork(fs *pflag.FlagSet) {
	list(fs, &f.extraHosts, "add-host", "", "Add a line to /etc/hosts: name:address", checkHost)
	list(fs, &f.dns, "dns", "", "Name server", checkAddr)
	list(fs, &f.dnsOption, "dns-option", "", "Resolver option", nil)
	list(fs, &f.dnsOption, "dns-opt", "", "Former name of --dns-option", nil)
	fs.Lookup("dns-opt").Hidden = true
	list(fs, &f.dnsSearch, "dns-search", "", "Search domain", checkDomain)
	fs.StringVar(&f.domainname, "domainname", "", "NIS domain name")
	list(fs, &f.expose, "expose", "", "Port or range that it listens on", nil)
	fs.StringVarP(&f.hostname, "hostname", "h", "", "Host name")
	fs.StringVar(&f.endpoint.ip4, "ip", "", "IPv4 address")
	fs.StringVar(&f.endpoint.ip6, "ip6", "", "IPv6 address")
	list(fs, &f.endpoint.links, "link", "", "Link to another container: name[:alias]", checkLink)
	list(fs, &f.endpoint.linkLocal, "link-local-ip", "", "Link-local address", checkAddr)
	fs.StringVar(&f.endpoint.mac, "mac-address", "", "MAC address")
	fs.Var(&f.networks, "network", "Network: NAME, none, host, container:NAME, or name=...,alias=...")
	fs.Var(&f.networks, "net", "Former name of --network")
	fs.Lookup("net").Hidden = true
	list(fs, &f.endpoint.aliases, "network-alias", "", "Further name on its network", nil)
	list(fs, &f.endpoint.aliases, "net-alias", "", "Former name of --network-alias", nil)
	fs.Lookup("net-alias").Hidden = true
	list(fs, &f.publish, "publish", "p", "Publish a port: [[address:]port:]port[/protocol]", nil)
	fs.BoolVarP(&f.publishAll, "publish-all", "P", false, "Publish every exposed port on a free one")
}

func (f *containerFlags) declareLimits(fs *pflag.FlagSet) {
	fs.Uint16Var(&f.blkioWeight, "blkio-weight", 0, "Share of block I/O, 10 to 1000, 0 for none")
	fs.Var(&f.weights, "blkio-weight-device", "The same for one device: path:weight")
	fs.StringVar(&f.cgroupParent, "cgroup-parent", "", "Parent of its cgroup")
	fs.StringVar(&f.cgroupns, "cgroupns", "", "Cgroup namespace: host or private")
	fs.Int64Var(&f.cpuPeriod, "cpu-period", 0, "Period of the processor quota, in microseconds")
	fs.Int64Var(&f.cpuQuota, "cpu-quota", 0, "Processor time per period, in microseconds")
	fs.Int64Var(&f.cpuRTPeriod, "cpu-rt-period", 0, "Period of the realtime quota, in microseconds")
	fs.Int64Var(&f.cpuRTRuntime, "cpu-rt-runtime", 0, "Realtime per period, in microseconds")
	fs.Int64VarP(&f.cpuShares, "cpu-shares", "c", 0, "Share of the processors, relative to others")
	fs.Var(&f.cpus, "cpus", "Number of processors")
	fs.StringVar(&f.cpusetCpus, "cpuset-cpus", "", "Processors it may use (0-3, 0,1)")
	fs.StringVar(&f.cpusetMems, "cpuset-mems", "", "Memory nodes it may use (0-3, 0,1)")
	f.readBps.bytes, f.writeBps.bytes = true, true
	fs.Var(&f.readBps, "device-read-bps", "Most bytes a second to read: path:rate")
	fs.Var(&f.readIOps, "device-read-iops", "Most reads a second: path:rate")
	fs.Var(&f.writeBps, "device-write-bps", "Most bytes a second to write: path:rate")
	fs.Var(&f.writeIOps, "device-write-iops", "Most writes a second: path:rate")
	fs.VarP(&f.memory, "memory", "m", "Most memory it may use")
	fs.Var(&f.reservation, "memory-reservation", "Memory it is held to when memory is short")
	f.swap.unlimited = true
	fs.Var(&f.swap, "memory-swap", "Memory and swap together; -1 for no limit on swap")
	fs.Int64Var(&f.swappiness, "memory-swappiness", -1, "How readily its memory is swapped, 0 to 100")
	fs.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "Do not kill it when it is out of memory")
	fs.IntVar(&f.oomScore, "oom-score-adj", 0, "How readily the host kills it, -1000 to 1000")
	fs.Int64Var(&f.pidsLimit, "pids-limit", 0, "Most processes, -1 for no limit")
	f.sysctls.check = checkSysctl
	fs.Var(&f.sysctls, "sysctl", "Kernel setting of its namespaces: name=value")
	fs.Var(&f.ulimits, "ulimit", "Resource limit: name=soft[:hard]")
}

// declareRefused adds the flags that docker has and kist does not serve, so that they are refused by name.
func (f *containerFlags) declareRefused(fs *pflag.FlagSet) {
	fs.BoolVar(&f.untrusted, "disable-content-trust", true, "Signatures are not checked")
	fs.Var(&f.umask, "umask", "Mask of the modes of files that it makes, octal as in 0027")
	fs.BoolVar(&f.apiSocket, "use-api-socket", false, "Not served")
	var ignored string
	for _, name := range []string{"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "kernel-memory"} {
		fs.StringVar(&ignored, name, "", "Not served")
		fs.Lookup(name).Hidden = true
	}
	fs.Lookup("disable-content-trust").Hidden = true
	fs.Lookup("use-api-socket").Hidden = true
}
