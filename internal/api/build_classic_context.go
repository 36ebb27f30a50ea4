package api

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// classicSession unpacks the body, and makes the client's side of the build of it. sent is what is to be removed behind it.
func (s *Server) classicSession(r *request, b *classicBuild) (_ build.Session, sent string, err error) {
	place := &build.Place{Auth: b.auth, Dirs: map[string]string{}}
	if b.remote != "" && b.remote != "client-session" {
		return place, "", nil
	}
	b.remote = ""
	dir, err := s.sentDir("classic")
	if err != nil {
		return nil, "", fmt.Errorf("receive the build context: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as the root of a context is; nobody else gets to the directory above
		return nil, "", err
	}
	if err := receiveArchive(r, dir); err != nil {
		return nil, "", err
	}
	if err := b.checkDockerfile(dir); err != nil {
		return nil, "", err
	}
	place.Dirs["context"], place.Dirs["dockerfile"] = dir, dir
	return place, dir, nil
}

// receiveArchive unpacks the request's body.
func receiveArchive(r *request, dir string) error {
	plain, _, err := archive.Decompress(r.Body)
	if err != nil {
		return fmt.Errorf("receive the build context: %w", err)
	}
	defer plain.Close()
	root, err := sys.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("receive the build context: %w", err)
	}
	defer root.Close()
	if _, err := archive.Untar(r.Context(), root, ".", plain, archive.UntarOptions{Owner: &archive.Owner{}}); err != nil {
		return fmt.Errorf("receive the build context: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)) // What fills the last record up.
	return nil
}

// checkDockerfile says at once that there is none.
func (b *classicBuild) checkDockerfile(dir string) error {
	_, err := readContext(dir, b.dockerfileOf())
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // If there is anything else wrong with it, the builder says so with the line.
	}
	if b.Dockerfile == "" {
		if _, err := readContext(dir, "Containerfile"); err == nil {
			b.Dockerfile = "Containerfile"
			return nil
		}
	}
	return &fault.Error{
		Code: "no-dockerfile", What: "Cannot locate specified Dockerfile: " + b.dockerfileOf(), Cause: "the build context that was sent has no such file",
		Class: errdefs.ErrInvalidArgument,
	}
}

// maxDockerfile is the size of the largest Dockerfile that is looked at.
const maxDockerfile = 16 << 20

func readContext(dir, name string) ([]byte, error) {
	root, err := sys.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(filepath.Join("/", name), maxDockerfile)
}

// classicStep is one instruction of the Dockerfile, as the classic builder counts them.
type classicStep struct {
	text  string // as written, on one line
	stage string
	index int // among the stage's instructions that are steps of the graph, from 1; 0 if it is none
}

// classicPlan are the instructions of the stages that the build needs, in the order of the Dockerfile.
type classicPlan struct {
	steps []classicStep
	// counts are how many steps a stage has, without those of ONBUILD; images says which stages begin with an image.
	counts map[string]int
	images map[string]bool
	single bool
}

// planClassic reads the Dockerfile; nil if that cannot be done: then steps are shown as they come.
func planClassic(dir string, b *classicBuild) *classicPlan {
	if dir == "" {
		return nil
	}
	raw, err := readContext(dir, b.dockerfileOf())
	if err != nil {
		return nil
	}
	return planDockerfile(string(raw), b.Target)
}

func planDockerfile(text, target string) *classicPlan {
	ast, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil
	}
	stages, args, err := instructions.Parse(ast.AST, nil)
	if err != nil || len(stages) == 0 {
		return nil
	}
	p := &classicPlan{counts: map[string]int{}, images: map[string]bool{}, single: len(stages) == 1}
	for i := range args {
		p.steps = append(p.steps, classicStep{text: oneLine(args[i].String())})
	}
	needed := neededStages(stages, target)
	for i := range stages {
		if needed[i] {
			p.addStage(stages, i)
		}
	}
	return p
}

// addStage adds a stage's instructions.
func (p *classicPlan) addStage(stages []instructions.Stage, i int) {
	st := &stages[i]
	name := st.Name
	if name == "" {
		name = "stage-" + strconv.Itoa(i)
	}
	name = strings.ToLower(name)
	from := classicStep{text: oneLine(st.SourceCode), stage: name}
	n := 0
	if st.BaseName != "scratch" && stageIndex(stages[:i], st.BaseName) < 0 {
		n++
		from.index = n
		p.images[name] = true
	}
	p.steps = append(p.steps, from)
	for _, c := range st.Commands {
		step := classicStep{stage: name, text: c.Name()}
		if s, ok := c.(fmt.Stringer); ok {
			step.text = oneLine(s.String())
		}
		switch c.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			n++
			step.index = n
		}
		p.steps = append(p.steps, step)
	}
	p.counts[name] = n
}

// oneLine shows an instruction of several lines as docker does.
func oneLine(text string) string {
	first, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if more {
		return first + "..."
	}
	return first
}

// stageIndex finds the stage that a name or a number means; -1 if it is none.
func stageIndex(stages []instructions.Stage, name string) int {
	for i := len(stages) - 1; i >= 0; i-- {
		if strings.EqualFold(stages[i].Name, name) && name != "" {
			return i
		}
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < len(stages) {
		return n
	}
	return -1
}

// neededStages are those that the target is made of.
func neededStages(stages []instructions.Stage, target string) map[int]bool {
	last := len(stages) - 1
	if i := stageIndex(stages, target); target != "" && i >= 0 {
		last = i
	}
	needed := map[int]bool{}
	var need func(i int)
	need = func(i int) {
		if i < 0 || needed[i] {
			return
		}
		needed[i] = true
		need(stageIndex(stages[:i], stages[i].BaseName))
		for _, c := range stages[i].Commands {
			switch c := c.(type) {
			case *instructions.CopyCommand:
				need(stageIndex(stages, c.From))
			case *instructions.RunCommand:
				for _, m := range instructions.GetMounts(c) {
					need(stageIndex(stages, m.From))
				}
			}
		}
	}
	need(last)
	return needed
}

// find is the position of a step of the graph: its stage, and its number of so many. -1 is returned for triggers of
// ONBUILD, which come between the first one and the others, and for what is not in the plan.
func (p *classicPlan) find(stage string, index, total int) int {
	stage = strings.ToLower(stage)
	if stage == "" && p.single {
		stage = p.steps[len(p.steps)-1].stage
	}
	if extra := total - p.counts[stage]; extra > 0 {
		first := 0
		if p.images[stage] {
			first = 1
		}
		switch {
		case index <= first:
		case index <= first+extra:
			return -1
		default:
			index -= extra
		}
	}
	return slices.IndexFunc(p.steps, func(s classicStep) bool { return s.index > 0 && s.stage == stage && s.index == index })
}
