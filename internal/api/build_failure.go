package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/fault"
)

// around is how many lines before and after those to blame are shown.
const around = 3

// buildFailure says why a build failed, with the lines of the Dockerfile that are to blame.
func buildFailure(err error) *buildmsg.Failure {
	f := &buildmsg.Failure{Parts: fault.PartsOf(err)}
	var step *build.StepError
	if errors.As(err, &step) {
		f.Step, f.Command, f.ExitCode, f.Tail = step.Name, step.Command, step.ExitCode, step.Tail
		if f.Try == "" {
			f.Try = step.Try
		}
		if f.What == "" && step.Command != "" && step.ExitCode > 0 {
			cause, try := exitWords(step.ExitCode)
			f.What = fmt.Sprintf("the step %s failed with exit code %d", step.Name, step.ExitCode)
			f.Cause = fmt.Sprintf("its command ended with exit code %d%s", step.ExitCode, cause)
			if f.Try == "" {
				f.Try = try
			}
		}
	}
	for _, s := range bkerrdefs.Sources(err) {
		if p, ok := placeOf(s.Info, s.Ranges); ok {
			f.Places = append(f.Places, p)
		}
	}
	if _, known := fault.As(err); !known {
		switch {
		case step != nil && step.Command != "":
			f.Code = "build-step-failed"
		case len(f.Places) > 0:
			f.Code = "build-dockerfile"
		case f.Code == "internal":
			f.Code = "build-failed"
		}
	}
	return f
}

// saidFull is what a command prints that meets a full disk: the C library's words.
const saidFull = "No space left on device"

// buildFailed is buildFailure with the evidence where the disk is full: for kist, or for a step's command.
func (s *Server) buildFailed(ctx context.Context, err error) *buildmsg.Failure {
	f := buildFailure(s.explainFull(ctx, err))
	if f.ExitCode <= 0 || !bytes.Contains(f.Tail, []byte(saidFull)) {
		return f
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), countWithin)
	defer cancel()
	f.Cause = "its command found the disk full"
	var st unix.Statfs_t
	if info, err := s.Host.Info(ctx); err == nil && unix.Statfs(info.DockerRootDir, &st) == nil {
		f.Cause += fmt.Sprintf(": the file system of %s has %s of %s free now that what the step wrote is gone",
			info.DockerRootDir, bytesOf(&st, st.Bavail), bytesOf(&st, st.Blocks))
	}
	if use, err := s.count(ctx); err == nil {
		f.Try = use.remedy()
	}
	return f
}

// placeOf cuts the lines around ranges out of a file.
func placeOf(info *pb.SourceInfo, ranges []*pb.Range) (buildmsg.Place, bool) {
	if info == nil || len(ranges) == 0 {
		return buildmsg.Place{}, false
	}
	lines := strings.Split(strings.TrimSuffix(string(info.Data), "\n"), "\n")
	p := buildmsg.Place{File: info.Filename}
	first, last := len(lines), 1
	for _, r := range ranges {
		m := markOf(r)
		if m.Start.Line < 1 || m.Start.Line > len(lines) {
			continue
		}
		m.End.Line = min(max(m.End.Line, m.Start.Line), len(lines))
		first, last = min(first, m.Start.Line), max(last, m.End.Line)
		p.Marks = append(p.Marks, m)
	}
	if len(p.Marks) == 0 {
		return p, false
	}
	p.First = max(first-around, 1)
	for _, l := range lines[p.First-1 : min(last+around, len(lines))] {
		p.Lines = append(p.Lines, strings.TrimSuffix(l, "\r"))
	}
	return p, true
}

func markOf(r *pb.Range) buildmsg.Range {
	at := func(p *pb.Position) buildmsg.Position {
		return buildmsg.Position{Line: int(p.GetLine()), Character: int(p.GetCharacter())}
	}
	return buildmsg.Range{Start: at(r.GetStart()), End: at(r.GetEnd())}
}

// exitWords say what an exit code means by the shell's and the kernel's convention.
func exitWords(code int) (cause, try string) {
	switch code {
	case 126:
		return ": the command cannot be executed", "make the file executable (RUN chmod +x, or COPY --chmod=755)"
	case 127:
		return ": the command was not found", "correct its name, or install it in an earlier step"
	case 137:
		return ": it was killed", "give it more memory, or look for what ends it"
	case 139:
		return ": it crashed", ""
	case 143:
		return ": it was told to end", ""
	}
	return "", ""
}
