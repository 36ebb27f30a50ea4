package suite

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// InMemory is a TestMain. It keeps temporary directories in memory, if it can: stores sync, and somebody else may be busy on the
// disk. No goroutine may be left once the functions in settle have run.
func InMemory(m *testing.M, settle ...func()) {
	dir, err := os.MkdirTemp("/dev/shm", "kist-test-")
	if err == nil {
		os.Setenv("TMPDIR", dir)
	}
	code := m.Run()
	os.RemoveAll(dir)
	for _, f := range settle {
		f()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
