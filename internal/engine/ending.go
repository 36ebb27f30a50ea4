package engine

import (
	"cmp"
	"fmt"
	"strings"
	"syscall"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/task"
)

// Ending says why a container's last run ended: what docker's exit code alone leaves open.
type Ending struct {
	// Reason is one of the stable words below.
	Reason string
	// Text says it to a person, with the evidence. Brief does so in few words; it is empty where the exit code says enough.
	Text  string
	Brief string `json:",omitempty"`
	// Signal ended the run, or was sent to end it.
	Signal string `json:",omitempty"`
	// By says who ended it: "kernel", "request", "health check", "host", or "itself". Caller is whose request it was.
	By     string `json:",omitempty"`
	Caller string `json:",omitempty"`
	// MemoryLimit and MemoryPeak are in bytes, where memory was the reason.
	MemoryLimit uint64 `json:",omitempty"`
	MemoryPeak  uint64 `json:",omitempty"`
}

// Reasons.
const (
	EndExited      = "exited"        // by itself, whatever its status
	EndOutOfMemory = "out-of-memory" // the kernel killed it
	EndStopped     = "stopped"       // on request, and in time
	EndStopTimeout = "stop-timeout"  // on request, but it had to be killed
	EndKilled      = "killed"        // by a signal that somebody asked for
	EndUnhealthy   = "unhealthy"     // its health checks failed
	EndCrashed     = "crashed"       // by a signal that its own code caused
	EndSignalled   = "signalled"     // by a signal that is not kist's
	EndNotStarted  = "not-started"   // its program could not be executed, or something that it needs is missing
	EndLost        = "lost"          // nobody was there to see
)

// intent is what somebody wanted of a run: set when a signal is sent that is meant to end it.
type intent struct {
	reason string // EndStopped, EndKilled, EndUnhealthy; empty when nobody wanted anything
	sig    syscall.Signal
	grace  time.Duration // negative: for ever
	forced bool          // it had to be killed
	deaf   string        // why it was killed at once
	health string        // what the last health check said
	unseen bool          // no daemon was there
	caller string        // whose wish it was, where that is known
}

// of says whose wish it was.
func (in *intent) of() string {
	if in.caller == "" {
		return ""
	}
	return " of " + in.caller
}

// intend notes what is wanted of the run: the last wish is the one that ends it.
func (c *container) intend(in intent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intent = in
}

// lostText is what is said of an end that nobody saw.
const lostText = "its exit status is unknown: the keeper had died"

// explainEnd explains the end of a run. It is nil where there is no more to say than the exit code does.
func explainEnd(d *definition, x task.Exit, in intent) *Ending {
	end := &Ending{By: "itself"}
	if x.Signal != 0 {
		end.Signal = signalName(syscall.Signal(x.Signal))
	}
	switch {
	case x.OOMKilled && x.Code == 128+int(syscall.SIGKILL):
		outOfMemory(end, d, x)
	case x.Unknown:
		*end = *lostEnding(lostText)
	case in.reason == EndUnhealthy:
		end.Reason, end.By, end.Brief = EndUnhealthy, "health check", "unhealthy"
		end.Text = "stopped because its health check failed" + in.health
	case in.reason == EndStopped:
		stopped(end, x, in)
	case in.reason == EndKilled && (x.Signal == int(in.sig) || x.Signal == 0 && x.Code == 128+int(in.sig)):
		end.Reason, end.By, end.Brief = EndKilled, "request", "killed on request"
		end.Signal = signalName(in.sig)
		end.Caller = in.caller
		end.Text = "killed on request" + in.of() + " with " + end.Signal
	case x.Signal != 0:
		signalled(end, d, syscall.Signal(x.Signal))
		if in.unseen && end.Reason == EndSignalled {
			end.By, end.Brief, end.Text = "", "", "ended by "+end.Signal+" while no daemon was there to see who sent it"
		}
	default:
		return partlyKilled(d, x)
	}
	return end
}

// outOfMemory says over which limit.
func outOfMemory(end *Ending, d *definition, x task.Exit) {
	end.Reason, end.By, end.Signal, end.Brief = EndOutOfMemory, "kernel", "SIGKILL", "out of memory"
	end.MemoryPeak, end.MemoryLimit = x.MemoryPeak, cmp.Or(x.MemoryLimit, uint64(max(d.HostConfig.Memory, 0)))
	end.Text = "killed by the kernel: " + overLimit(end) + " at " + x.At.Local().Format(time.TimeOnly)
	if end.MemoryLimit > 0 {
		end.Brief += ", over " + mebibytes(end.MemoryLimit)
	}
}

func overLimit(end *Ending) string {
	text := "out of memory, of which this host had no more"
	if end.MemoryLimit > 0 {
		text = "out of memory, over its limit of " + mebibytes(end.MemoryLimit)
	}
	if end.MemoryPeak > 0 {
		text += " (peak " + mebibytes(end.MemoryPeak) + ")"
	}
	return text
}

// stopped tells a stop that went well from one that had to kill.
func stopped(end *Ending, x task.Exit, in intent) {
	end.Reason, end.By, end.Caller = EndStopped, "request", in.caller
	name := signalName(in.sig)
	switch {
	case x.Signal == int(syscall.SIGKILL) && in.deaf != "":
		end.Text = "stopped on request" + in.of() + "; " + in.deaf
	case x.Signal == int(syscall.SIGKILL) && in.forced:
		end.Reason, end.Brief = EndStopTimeout, "stop timed out"
		end.Text = fmt.Sprintf("killed on request%s: it had not ended within %v of %s", in.of(), in.grace, name)
	case x.Signal != 0:
		end.Text = "stopped on request" + in.of() + ": " + end.Signal + " ended it"
	default:
		end.Text = fmt.Sprintf("stopped on request%s: it ended with status %d after %s", in.of(), x.Code, name)
	}
}

// faults are the signals that a process brings upon itself.
var faults = map[syscall.Signal]string{
	syscall.SIGSEGV: "it used memory that is not its own", syscall.SIGBUS: "it used memory that is not there",
	syscall.SIGILL: "it ran an instruction that this processor does not have", syscall.SIGFPE: "it divided by zero, or the like",
	syscall.SIGABRT: "it gave up (abort)", syscall.SIGTRAP: "it ran into a breakpoint",
	syscall.SIGSYS:  "it made a system call that its seccomp profile forbids",
	syscall.SIGXCPU: "it used more processor time than its limit", syscall.SIGXFSZ: "it wrote a file larger than its limit",
}

// signalled says where a signal came from that nobody asked kist for.
func signalled(end *Ending, d *definition, sig syscall.Signal) {
	if why, ok := faults[sig]; ok {
		end.Reason, end.Brief = EndCrashed, "crashed: "+end.Signal
		end.Text = "crashed with " + end.Signal + ": " + why
		return
	}
	end.Reason, end.By, end.Brief = EndSignalled, "host", end.Signal+" from outside"
	switch {
	case !d.HostConfig.PidMode.IsPrivate():
		end.Text = fmt.Sprintf("ended by %s from another process, not by kist", end.Signal)
	case sig == syscall.SIGKILL:
		// The kernel keeps SIGKILL away from a process 1 that somebody in its own namespace sends it to.
		end.Text = "killed with SIGKILL from outside the container: not by kist, and not for want of memory"
	default:
		end.By, end.Brief = "itself", ""
		end.Text = fmt.Sprintf("ended by %s, which it sent itself or which came from outside, not from kist", end.Signal)
	}
}

// partlyKilled tells of a run that ended by itself, but not without an accident; nil for one that did.
func partlyKilled(d *definition, x task.Exit) *Ending {
	if !x.OOMKilled {
		return nil
	}
	end := &Ending{Reason: EndExited, By: "itself", Brief: "a process of it was out of memory"}
	end.MemoryPeak, end.MemoryLimit = x.MemoryPeak, cmp.Or(x.MemoryLimit, uint64(max(d.HostConfig.Memory, 0)))
	end.Text = exitedText(x.Code) + "; before that the kernel had killed one of its processes: " + overLimit(end)
	return end
}

func exitedText(code int) string {
	text := fmt.Sprintf("ended by itself with status %d", code)
	switch sig := code - 128; {
	case code == 127:
		text += ", which shells use for a command that is not there"
	case code == 126:
		text += ", which shells use for a file that cannot be executed"
	case sig > 0 && sig < 65:
		text += ", which shells use for a command that " + signalName(syscall.Signal(sig)) + " ended"
	}
	return text
}

func lostEnding(text string) *Ending {
	return &Ending{Reason: EndLost, Text: text, Brief: "exit status lost"}
}

// notStarted tells why a container did not start.
func notStarted(err error) *Ending {
	end := &Ending{Reason: EndNotStarted, Text: err.Error(), Brief: "did not start"}
	if f, ok := fault.As(err); ok {
		end.Text = f.What
		if f.Cause != "" && !strings.Contains(f.What, f.Cause) {
			end.Text += ": " + f.Cause
		}
	}
	return end
}

// ended explains the end of the last run; nil without one. Of a container that was started again it says why it had to be.
func (s *state) ended() *Ending {
	switch {
	case s.End != nil:
		return s.End
	case s.Phase.alive(), s.FinishedAt.IsZero():
		return nil
	}
	return &Ending{Reason: EndExited, By: "itself", Text: exitedText(s.ExitCode)}
}

// Ending is why a container's last run ended, also of one that was removed at its exit a moment ago, by its full id; nil where
// there is nothing to say.
func (e *Engine) Ending(name string) *Ending {
	c, err := e.index.find(name)
	if err != nil {
		return e.departed.end(name)
	}
	_, st := c.look()
	return st.ended()
}

// Telling says that the end is worth a word to whoever waited for it: it was neither the program's own nor asked for.
func (end *Ending) Telling() bool {
	return end != nil && (end.Reason == EndOutOfMemory || end.Reason == EndSignalled || end.Reason == EndCrashed)
}

// State is docker's, and why the container ended.
type State struct {
	*docker.State
	KistExit *Ending `json:",omitempty"`
}

// Inspection is docker's answer to inspect, with what is kist's own. The fields before State are docker's as well: so they come
// first when it is written.
type Inspection struct {
	ID      string `json:"Id"`
	Created string
	Path    string
	Args    []string
	State   *State
	docker.InspectResponse
	// Secrets are what kist's own endpoint gave it, without their values.
	Secrets []Secret `json:",omitempty"`
}

// Summary is docker's entry of a list, with what is kist's own.
type Summary struct {
	docker.Summary
	KistExit *Ending `json:",omitempty"`
}

// lastCheck is what the last health check of a run said, on one line.
func (c *container) lastCheck() string {
	h := c.health()
	if h == nil || len(h.Log) == 0 {
		return ""
	}
	last := h.Log[len(h.Log)-1]
	text := fmt.Sprintf(" %d times; the last ended with status %d", h.FailingStreak, last.ExitCode)
	if h.FailingStreak == 1 {
		text = fmt.Sprintf(" and ended with status %d", last.ExitCode)
	}
	if said := strings.Join(strings.Fields(last.Output), " "); said != "" {
		const most = 200
		text += fmt.Sprintf(": %q", said[:min(len(said), most)])
	}
	return text
}

// wanted is what was wanted of the run.
func (c *container) wanted() intent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.intent
}
