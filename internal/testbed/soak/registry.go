package soak

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

const registryConfig = `version: 0.1
storage: {filesystem: {rootdirectory: %s}}
http: {addr: 127.0.0.1:5000}
`

// Registry starts Debian's docker-registry on a host, and returns its address, or empty where it is not installed.
func Registry(t testing.TB, h *testbed.Host) string {
	t.Helper()
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		return ""
	}
	file := filepath.Join(h.Dir, "registry.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, registryConfig, filepath.Join(h.Dir, "registry")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(path, "serve", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if _, err := h.Try("curl", "-s", "http://127.0.0.1:5000/v2/"); err == nil {
			return "127.0.0.1:5000"
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the registry does not answer")
	return ""
}
