package test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// TestMyApp builds the example of the README from Debian packages and asks it, once with the settings that its image
// brings, once with some of its own.
func TestMyApp(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	debs, err := testbed.Debs(t.Context(), "python3", "python3-numpy", "python3-scipy", "python3-pandas", "python3-tinydb")
	if err != nil {
		t.Skipf("skip: no Debian packages to build with: %v", err)
	}
	h := testbed.NewHost(t)
	h.StartDaemon()
	port := serve(t, h, files(debs))
	h.Run("kist", "load", "-q", "-i", testbed.Debian.MustArchive(t))
	dir, err := filepath.Abs("../examples/myapp")
	if err != nil {
		t.Fatal(err)
	}
	h.Run("kist", "build", "-q", "-t", "myapp", "--add-host", "mirror:host-gateway", "--build-arg", "BASE="+testbed.Debian.Name,
		"--build-arg", "APT_SOURCE=deb [trusted=yes] http://mirror:"+port+"/ ./", dir)
	h.Run("kist", "run", "-d", "--name", "first", "-p", "8080:8080", "myapp")
	h.Run("kist", "run", "-d", "--name", "second", "-p", "8081:8080", "-e", "TITLE=Other", "-e", "SAMPLES=10", "myapp")
	for _, c := range []struct {
		address, title string
		documents      int
	}{{"8080", "MyApp", 200}, {"8081", "Other", 10}} {
		var got struct {
			Title     string
			Documents int
			Slope     float64
		}
		if err := json.Unmarshal([]byte(eventuallyAnswers(t, h, "http://127.0.0.1:"+c.address+"/")), &got); err != nil {
			t.Fatal(err)
		}
		if got.Title != c.title || got.Documents != c.documents || got.Slope < 1 || got.Slope > 5 {
			t.Errorf("port %s answers %+v", c.address, got)
		}
	}
}

// eventuallyAnswers asks until somebody is there.
func eventuallyAnswers(t *testing.T, h *testbed.Host, url string) string {
	t.Helper()
	var out string
	var err error
	for range 300 {
		if out, err = h.Try("curl", "-sf", url); err == nil {
			return out
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not answer: %v", url, err)
	return ""
}
