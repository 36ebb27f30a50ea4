package cli

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// onTerminal gives an app whose standard error is a terminal, and what was written there.
func onTerminal(t *testing.T, env map[string]string) (a *app, written func() string) {
	t.Helper()
	screen, tty, err := pty.Open()
	if err != nil {
		t.Skipf("skip: no terminals here: %v", err)
	}
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = b.ReadFrom(screen) // ends with an error when the terminal is closed
	}()
	a = &app{err: tty, out: tty, getenv: func(k string) string { return env[k] }}
	return a, func() string {
		if err := tty.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		<-done
		screen.Close()
		return b.String()
	}
}

// slow gives a byte each time, after a while.
type slow struct{ left int }

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errors.New("end")
	}
	s.left--
	time.Sleep(200 * time.Millisecond)
	return copy(p, "xxxxxxxxxx"), nil
}

func TestMeter(t *testing.T) {
	for _, tc := range []struct {
		name   string
		env    map[string]string
		steps  int
		shows  []string
		silent bool
	}{
		{"slow", nil, 5, []string{`Copying \[=+ +\] \d0B/100B  [\d.]+B/s  \ds left`, `\r\x1b\[KCopied 50B in [1-9]\.\d s`}, false},
		{"quick", nil, 0, nil, true},
		{"dumb", map[string]string{"TERM": "dumb"}, 4, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, written := onTerminal(t, tc.env)
			m := a.measure("Copying", 100)
			_, err := new(bytes.Buffer).ReadFrom(m.reader(&slow{tc.steps}))
			if err == nil || err.Error() != "end" {
				t.Error(err)
			}
			m.end("Copied", nil)
			got := written()
			if tc.silent && got != "" {
				t.Errorf("%q, want nothing", got)
			}
			for _, re := range tc.shows {
				if !regexp.MustCompile(re).MatchString(got) {
					t.Errorf("%q, want %s", got, re)
				}
			}
			for _, line := range strings.FieldsFunc(got, func(r rune) bool { return r == '\r' || r == '\n' }) {
				if n := len([]rune(line)); n > 60+len(clearRight) {
					t.Errorf("%d characters in %q", n, line)
				}
			}
		})
	}
}

// What fails says nothing of totals; what is printed meanwhile is not on the meter's line.
func TestMeterClears(t *testing.T) {
	a, written := onTerminal(t, nil)
	m := a.measure("Waiting for x", 0)
	time.Sleep(meterPatience + 3*meterPeriod/2)
	m.clear()
	a.note("a line")
	m.end("Done", errors.New("no"))
	if got := written(); !strings.Contains(got, "Waiting for x ... 0 s") || !strings.Contains(got, "\r"+clearRight+"a line\r\n") || strings.Contains(got, "Done") {
		t.Errorf("%q", got)
	}
}

// Off a terminal there is nothing to clear away.
func TestMeterOffTerminal(t *testing.T) {
	var b bytes.Buffer
	a := &app{err: &b, getenv: func(string) string { return "" }}
	m := a.measure("Copying", 0)
	if _, err := new(bytes.Buffer).ReadFrom(m.reader(&slow{4})); err == nil {
		t.Error("no end")
	}
	m.end("Copied", nil)
	if b.Len() > 0 {
		t.Errorf("%q", b.String())
	}
}

func TestCutLine(t *testing.T) {
	for in, want := range map[string]string{
		"short": "short", "exactly ten": "exactly te", "\x1b[1mbold and long\x1b[0m": "\x1b[1mbold and l\x1b[0m", "ünïcödé häs runes": "ünïcödé hä",
	} {
		if got := cutLine(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
