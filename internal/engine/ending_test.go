package engine

import (
	"strings"
	"syscall"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/task"
)

func TestExplainEnd(t *testing.T) {
	own := &definition{HostConfig: &docker.HostConfig{}}
	shared := &definition{HostConfig: &docker.HostConfig{PidMode: "host"}}
	limited := &definition{HostConfig: &docker.HostConfig{Resources: docker.Resources{Memory: 512 << 20}}}
	at := time.Date(2026, 5, 1, 14, 2, 11, 0, time.Local)
	killed := task.Exit{Code: 137, Signal: 9, At: at}
	oom := killed
	oom.OOMKilled, oom.MemoryLimit, oom.MemoryPeak = true, 512<<20, 536661196
	old := oom
	old.MemoryLimit, old.MemoryPeak = 0, 0
	stop := intent{reason: EndStopped, sig: syscall.SIGTERM, grace: 10 * time.Second}
	late, deaf := stop, stop
	late.forced, deaf.deaf = true, "killed at once: it is deaf"
	for _, tc := range []struct {
		name         string
		d            *definition
		x            task.Exit
		in           intent
		reason, text string
	}{
		{"by itself", own, task.Exit{Code: 3}, intent{}, "", ""},
		{"a limit", own, oom, intent{}, EndOutOfMemory, "killed by the kernel: out of memory, over its limit of 512M (peak 511.8M) at 14:02:11"},
		{"a limit, while it is stopped", own, oom, late, EndOutOfMemory, "over its limit"},
		{"the row's limit", limited, old, intent{}, EndOutOfMemory, "over its limit of 512M at 14:02:11"},
		{"the host's memory", own, old, intent{}, EndOutOfMemory, "out of memory, of which this host had no more at"},
		{"one process of several", own, task.Exit{Code: 3, OOMKilled: true, MemoryLimit: 1 << 20}, intent{}, EndExited, "ended by itself with status 3; before that the kernel had killed one"},
		{"a stop", own, task.Exit{Code: 0}, stop, EndStopped, "stopped on request: it ended with status 0 after SIGTERM"},
		{"a stop without a handler", own, task.Exit{Code: 143, Signal: 15}, stop, EndStopped, "stopped on request: SIGTERM ended it"},
		{"a stop that timed out", own, killed, late, EndStopTimeout, "it had not ended within 10s of SIGTERM"},
		{"a stop of a deaf one", own, killed, deaf, EndStopped, "stopped on request; killed at once: it is deaf"},
		{"a kill", own, killed, intent{reason: EndKilled, sig: syscall.SIGKILL}, EndKilled, "killed on request with SIGKILL"},
		{"somebody's stop", own, killed, intent{reason: EndStopped, sig: syscall.SIGTERM, forced: true, grace: time.Second, caller: "docker (pid 7, user 0)"}, EndStopTimeout, "killed on request of docker (pid 7, user 0): it had"},
		{"a signal that does not end it", own, task.Exit{Code: 1}, intent{reason: EndKilled, sig: syscall.SIGHUP}, "", ""},
		{"a signal, and then another", own, killed, intent{reason: EndKilled, sig: syscall.SIGHUP}, EndSignalled, "from outside the container"},
		{"its health", own, task.Exit{Code: 0}, intent{reason: EndUnhealthy, health: " 3 times"}, EndUnhealthy, "stopped because its health check failed 3 times"},
		{"a crash", own, task.Exit{Code: 139, Signal: 11}, intent{}, EndCrashed, "crashed with SIGSEGV"},
		{"seccomp", own, task.Exit{Code: 159, Signal: 31}, intent{}, EndCrashed, "seccomp"},
		{"from outside", own, killed, intent{}, EndSignalled, "killed with SIGKILL from outside the container: not by kist"},
		{"from the host's processes", shared, killed, intent{}, EndSignalled, "ended by SIGKILL from another process"},
		{"some signal", own, task.Exit{Code: 143, Signal: 15}, intent{}, EndSignalled, "sent itself or which came from outside"},
		{"while no daemon was there", own, killed, intent{unseen: true}, EndSignalled, "ended by SIGKILL while no daemon was there"},
		{"nobody knows", own, task.Exit{Code: 255, Unknown: true}, intent{}, EndLost, "the keeper had died"},
	} {
		end := explainEnd(tc.d, tc.x, tc.in)
		if end == nil {
			end = &Ending{}
		}
		if end.Reason != tc.reason || !strings.Contains(end.Text, tc.text) {
			t.Errorf("%s: %+v", tc.name, end)
		}
	}
}

func TestEndOfAState(t *testing.T) {
	past := time.Now().Add(-time.Minute)
	for _, tc := range []struct {
		st   state
		text string
	}{
		{state{}, ""},
		{state{Phase: running}, ""},
		{state{Phase: running, Restarts: 1, End: &Ending{Text: "unhealthy"}}, "unhealthy"},
		{state{Phase: exited, FinishedAt: past, ExitCode: 1}, "ended by itself with status 1"},
		{state{Phase: exited, FinishedAt: past, ExitCode: 127}, "a command that is not there"},
		{state{Phase: exited, FinishedAt: past, ExitCode: 137}, "a command that SIGKILL ended"},
		{state{Phase: exited, FinishedAt: past, ExitCode: 255}, "ended by itself with status 255"},
	} {
		end := tc.st.ended()
		if (end == nil) != (tc.text == "") || end != nil && !strings.Contains(end.Text, tc.text) {
			t.Errorf("%+v: %+v", tc.st, end)
		}
	}
}
