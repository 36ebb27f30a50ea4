package suite

import (
	"net"
	"testing"
)

func TestMain(m *testing.M) { InNetwork(m) }

func TestInNetworkHasNothingButLoopback(t *testing.T) {
	NeedNetwork(t)
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.Flags&net.FlagUp != 0 {
			t.Errorf("%s is up in a fresh network namespace", i.Name)
		}
	}
}

func TestGolden(t *testing.T) { Golden(t, "lines.golden", "one\ntwo\n") }

// recorder is a test whose errors are wanted.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.errors++ }

func TestGoldenDiffers(t *testing.T) {
	if *update {
		t.Skip("skip: golden files are being written")
	}
	r := &recorder{TB: t}
	if Golden(r, "lines.golden", "one\nthree\n"); r.errors != 1 {
		t.Errorf("%d errors", r.errors)
	}
}
