package build

import (
	"errors"
	"strconv"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// onePlace makes an error that blames all lines of a cycle of stages blame the one that closes it: without that line there is
// no cycle. Other errors stay as they are.
func (j *job) onePlace(err error) error {
	sources := bkerrdefs.Sources(err)
	if len(sources) < 2 {
		return err
	}
	var at *parser.LocationError
	if !errors.As(err, &at) {
		return err
	}
	line, ok := closing(j.parsed())
	if !ok {
		return err
	}
	for _, s := range sources {
		if startsAt(s.Ranges, line) {
			return bkerrdefs.WithSource(at, s)
		}
	}
	return err
}

func startsAt(ranges []*pb.Range, line int) bool {
	return len(ranges) > 0 && int(ranges[0].GetStart().GetLine()) == line
}

// closing finds the first instruction, read from the top, with which stages need each other in a circle.
func closing(stages []instructions.Stage) (line int, ok bool) {
	needs := make([][]int, len(stages))
	for i := range stages {
		for _, c := range stages[i].Commands {
			for _, name := range usedBy(c) {
				of, ok := stageOf(stages, name)
				if !ok {
					continue
				}
				needs[i] = append(needs[i], of)
				if at := c.Location(); reaches(needs, of, i, map[int]bool{}) && len(at) > 0 {
					return at[0].Start.Line, true
				}
			}
		}
		// What follows it is another stage, which may be built on this one.
		if i+1 < len(stages) {
			if of, ok := stageOf(stages[:i+1], stages[i+1].BaseName); ok {
				needs[i+1] = append(needs[i+1], of)
			}
		}
	}
	return 0, false
}

// usedBy are the stages, or images, that an instruction takes files from.
func usedBy(c instructions.Command) []string {
	switch c := c.(type) {
	case *instructions.CopyCommand:
		return []string{c.From}
	case *instructions.RunCommand:
		var names []string
		for _, m := range instructions.GetMounts(c) {
			names = append(names, m.From)
		}
		return names
	}
	return nil
}

// stageOf finds a stage by its name or number.
func stageOf(stages []instructions.Stage, name string) (int, bool) {
	if name == "" {
		return 0, false
	}
	if i, ok := instructions.HasStage(stages, name); ok {
		return i, true
	}
	i, err := strconv.Atoi(name)
	return i, err == nil && i >= 0 && i < len(stages)
}

// reaches says whether one stage needs the other, directly or not.
func reaches(needs [][]int, from, to int, seen map[int]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	for _, next := range needs[from] {
		if reaches(needs, next, to, seen) {
			return true
		}
	}
	return false
}
