package engine

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
)

// What execve takes, as long as nobody has raised the limit of the stack: a quarter of it in all, and 32 pages for one string.
const (
	longestString = 128 << 10
	longestStart  = 2 << 20
)

// tooLong tells which part of the command or the environment the kernel does not take.
func tooLong(d *definition) finding {
	all, most, largest := 0, 0, ""
	add := func(text, name string) {
		all += len(text) + 1
		if len(text) > most {
			most, largest = len(text), name
		}
	}
	program, args := d.command()
	add(program, "the program's name")
	for i, a := range args {
		add(a, fmt.Sprintf("argument %d", i+1))
	}
	words := all
	for _, kv := range d.Config.Env {
		name, _, _ := strings.Cut(kv, "=")
		if len(name) > 64 {
			name = name[:64] + "..."
		}
		add(kv, "the variable "+name)
	}
	f := finding{code: "exec-too-long", try: "pass it in a file: -v FILE:/PATH, or --secret"}
	switch {
	case most >= longestString:
		f.cause = fmt.Sprintf("%s has %s, and the kernel takes %s for one", largest, units.BytesSize(float64(most)), units.BytesSize(longestString))
	case all+8*(len(args)+len(d.Config.Env)) < longestStart/2: // an exec's own are not the container's
		f.cause = fmt.Sprintf("its arguments and variables are too long: the kernel takes %s in all, and %s for one",
			units.BytesSize(longestStart), units.BytesSize(longestString))
	default:
		f.cause = fmt.Sprintf("its arguments (%s) and its %d variables (%s) are too long: the kernel takes %s in all",
			units.BytesSize(float64(words)), len(d.Config.Env), units.BytesSize(float64(all-words)), units.BytesSize(longestStart))
	}
	return f
}
