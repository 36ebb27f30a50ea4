package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// recorder is a test whose errors are wanted.
type recorder struct {
	testing.TB
	mu   sync.Mutex // guards said
	said string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said += fmt.Sprintf(format, args...)
}

func TestGuardEndsWhatStandsStill(t *testing.T) {
	h := NewHost(t)
	r := &recorder{TB: t}
	watched := *h
	watched.t = r
	g := watched.guarded(500 * time.Millisecond)
	other := h.Command("bash", "-c", "exec -a other sleep 100")
	stuck := h.Command("bash", "-c", "exec -a /bin/kist sleep 100")
	for _, cmd := range []*exec.Cmd{other, stuck} {
		if err := cmd.Start(); err != nil {
			g.close()
			t.Fatal(err)
		}
	}
	if err := stuck.Wait(); err == nil {
		t.Error("it ended well")
	}
	g.close()
	if !strings.Contains(r.said, "/bin/kist 100") || !strings.Contains(r.said, "wchan: ") {
		t.Errorf("said %q", r.said)
	}
	_ = other.Process.Kill()
	if err := other.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("what is no command of kist ended by itself: %v", err)
	}
}
