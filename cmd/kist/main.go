// How many processors its cgroup allows is of no use to a program that lives for milliseconds, and takes one of them to
// find out.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Kist is the command line, and, started by the daemon, the keeper of all containers.
package main

import (
	"fmt"
	"os"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/front/early"
	"github.com/kistdev/kist/internal/keeper"
	"github.com/kistdev/kist/internal/runtime"
)

// version is set by the linker (-X main.version).
var version = "0.1.0-dev"

func main() {
	// A process that is to become a container goes no further than this.
	runtime.MaybeChild()
	// The daemon starts the keeper as "kist keeper --dir DIR", and nothing else may be in its way.
	if len(os.Args) == 4 && os.Args[1] == "keeper" && os.Args[2] == "--dir" {
		if err := runtime.Seal(); err != nil {
			fmt.Fprintln(os.Stderr, "kist keeper:", err)
			os.Exit(1)
		}
		os.Exit(keeper.Main(os.Args[3]))
	}
	cli.Version = version
	if c, gone := early.Unfinished(); c != nil {
		os.Exit(cli.Continue(c, gone))
	}
	os.Exit(cli.Main(os.Args[1:]))
}
