// How many processors its cgroup allows is of no use to a program that mostly waits for a daemon.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Kist-compose is `kist compose`: a program of its own, so that reading Compose files costs kist's other commands nothing.
package main

import (
	"os"
	"runtime/debug"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose"
)

// version is set by the linker (-X main.version).
var version = "0.1.0-dev"

func main() {
	// It ends before what is saved would matter.
	debug.SetGCPercent(400)
	cli.Version = version
	os.Exit(compose.Main(os.Args[1:]))
}
