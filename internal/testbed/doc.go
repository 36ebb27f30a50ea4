// Package testbed is what tests, benchmarks and examples stand on: images made from Debian packages, so that no public
// registry is needed, and hosts of their own: network, pid and mount namespaces in which a daemon runs without touching
// the machine's own, and with which everything that was started ends.
package testbed

import (
	"os"
	"path/filepath"
	"runtime"
)

// Root is the top directory of the source tree.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("testbed: no caller information")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Bin is the directory of the built programs; KIST_TESTBED_BIN names another one.
func Bin() string {
	if dir := os.Getenv("KIST_TESTBED_BIN"); dir != "" {
		return dir
	}
	return filepath.Join(Root(), "bin")
}

// Images is the directory in which made images are kept.
func Images() string {
	if dir := os.Getenv("KIST_TESTBED_IMAGES"); dir != "" {
		return dir
	}
	return filepath.Join(Root(), "bin", "images")
}

// Tool is the path of a program that scripts/clients has built for tests ("docker", "docker-buildx"), or empty where it is
// not there.
func Tool(name string) string {
	path := filepath.Join(Root(), "bin", "tools", name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
