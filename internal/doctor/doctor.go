// Package doctor looks at a host and at what kist keeps on it, and says of each thing whether it is well, with the evidence
// and the command that mends it. It needs no daemon: it is asked most when none can start. It changes nothing unless it is told
// to clear leftovers away.
package doctor

import (
	"context"
	"slices"
	"sync"
	"time"
)

// State is how a thing is.
type State string

// States. Only Fail makes a host one on which kist does not work as it should.
const (
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
)

// Finding is one line of the report.
type Finding struct {
	// Area is the part of the host; Name says what of it.
	Area string `json:"area"`
	Name string `json:"name"`
	// State, and the evidence for it.
	State State  `json:"state"`
	Text  string `json:"text"`
	// Try mends it: a command where there is one.
	Try string `json:"try,omitempty"`
	// Fixable says that --fix clears it away.
	Fixable bool `json:"fixable,omitempty"`
	// Fixed says that it was cleared away; FixError why that failed.
	Fixed    bool   `json:"fixed,omitempty"`
	FixError string `json:"fixError,omitempty"`

	// fix clears it away; nil where only a person can.
	fix func() error
}

// Report is what was found.
type Report struct {
	Version  string    `json:"version"`
	Time     time.Time `json:"time"`
	DataRoot string    `json:"dataRoot"`
	ExecRoot string    `json:"execRoot"`
	Findings []Finding `json:"findings"`
	Summary  Summary   `json:"summary"`
}

// Summary counts the findings.
type Summary struct {
	OK   int `json:"ok"`
	Warn int `json:"warn"`
	Fail int `json:"fail"`
}

// Options say which daemon's host it is.
type Options struct {
	// DataRoot and ExecRoot are the daemon's; Instance and CgroupParent its names on the host.
	DataRoot, ExecRoot, Instance, CgroupParent string
	// Socket is where it listens.
	Socket string
	// Mirrors, Insecure and CertDirs are for registries.
	Mirrors, Insecure, CertDirs []string
	// Bridge is the default bridge's name, if one was chosen.
	Bridge string
	// ConfigFile is the configuration that was read, if there is one; ConfigErr says why it could not be.
	ConfigFile string
	ConfigErr  error
	// Version is this program's.
	Version string
	// Deep reads all blobs instead of a sample. Fix clears leftovers away.
	Deep, Fix bool
}

// host is what the checks share.
type host struct {
	Options
	procs  []process
	daemon daemonState
	stock  *inventory
	// stockErr says why nothing is known of the containers.
	stockErr error
}

// check looks at one part.
type check struct {
	area string
	look func(ctx context.Context, h *host) []Finding
}

// checks in the order of the report.
var checks = []check{
	{"kernel", kernel},
	{"cgroups", cgroups},
	{"namespaces", namespaces},
	{"users", users},
	{"firewall", firewalls},
	{"forwarding", forwarding},
	{"dns", resolvers},
	{"disk", disks},
	{"limits", limits},
	{"clock", clock},
	{"proxy", proxies},
	{"registry", registries},
	{"daemon", daemon},
	{"keeper", keeper},
	{"store", store},
	{"leftovers", leftovers},
	{"engines", engines},
}

// checkTime bounds one check. Reading all blobs takes as long as it takes.
const checkTime = 15 * time.Second

// Run examines the host.
func Run(ctx context.Context, o Options) *Report {
	h := &host{Options: o, procs: processes()}
	h.daemon = h.findDaemon(ctx)
	h.stock, h.stockErr = h.takeStock(ctx)
	found := make([][]Finding, len(checks))
	var g sync.WaitGroup
	for i, c := range checks {
		g.Go(func() { found[i] = h.run(ctx, c) })
	}
	g.Wait()
	r := &Report{Version: o.Version, Time: time.Now(), DataRoot: o.DataRoot, ExecRoot: o.ExecRoot, Findings: slices.Concat(found...)}
	for i := range r.Findings {
		f := &r.Findings[i]
		if o.Fix && f.fix != nil {
			f.clear()
		}
		switch f.State {
		case OK:
			r.Summary.OK++
		case Warn:
			r.Summary.Warn++
		case Fail:
			r.Summary.Fail++
		}
	}
	return r
}

// run runs one check within its time. One that hangs, as a dead file server makes them, is a finding.
func (h *host) run(ctx context.Context, c check) []Finding {
	if h.Deep && c.area == "store" {
		return named(c.area, c.look(ctx, h))
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	done := make(chan []Finding, 1)
	go func() { done <- c.look(ctx, h) }()
	select {
	case list := <-done:
		return named(c.area, list)
	case <-time.After(checkTime + time.Second):
		return named(c.area, []Finding{fail("answer", "nothing within "+checkTime.String()+": a file system or a server on the way does not answer", "dmesg | tail")})
	}
}

func named(area string, list []Finding) []Finding {
	for i := range list {
		list[i].Area = area
	}
	return list
}

// clear does what the finding asks for.
func (f *Finding) clear() {
	if err := f.fix(); err != nil {
		f.FixError = err.Error()
		return
	}
	f.Fixed, f.State = true, OK
}

func ok(name, text string) Finding { return Finding{Name: name, State: OK, Text: text} }
func warn(name, text, try string) Finding {
	return Finding{Name: name, State: Warn, Text: text, Try: try}
}

func fail(name, text, try string) Finding {
	return Finding{Name: name, State: Fail, Text: text, Try: try}
}
