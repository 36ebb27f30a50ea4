// Images makes images from Debian packages: the ones that the tests, the benchmarks and the tour use.
//
//	go run ./internal/testbed/cmd/images busybox web
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/kistdev/kist/internal/testbed"
)

func main() {
	recipes := testbed.Recipes()
	known := slices.Sorted(maps.Keys(recipes))
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: images NAME...; there are: "+strings.Join(known, " "))
		os.Exit(2)
	}
	for _, name := range os.Args[1:] {
		r, ok := recipes[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "images: no image %q; there are: %s\n", name, strings.Join(known, " "))
			os.Exit(2)
		}
		path, err := r.Archive(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, "images: "+err.Error())
			os.Exit(1)
		}
		fmt.Println(path)
	}
}
