package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// StepError is a step that failed. Its text is the one that docker's users know; the fields are for whoever shows more.
// Where the step was written is told by BuildKit's errdefs.Source, which is around it.
type StepError struct {
	// Vertex and Name of the step.
	Vertex digest.Digest
	Name   string
	// Command is what RUN ran, empty for other steps.
	Command string
	// ExitCode of the command; -1 if it did not come to an end of its own.
	ExitCode int
	// Tail is the last that the command said.
	Tail []byte
	// Try is what a person can do about it; may be empty.
	Try string
	// Err is the cause.
	Err error
}

// Error is what docker says.
func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// failed puts around an error which step it happened in and where that was written.
func (j *job) failed(s *step, err error) error {
	if j.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errdefs.IsCanceled(err)) {
		return context.Cause(j.ctx)
	}
	v := s.v
	var stepErr *StepError
	if !errors.As(err, &stepErr) {
		err = &StepError{Vertex: v.digest, Name: v.name, ExitCode: -1, Err: err}
	}
	return v.locate(bkerrdefs.WrapVertex(err, v.digest))
}

// locate tells where the step was written, unless an error tells a place already: a source has none of its own, but the step
// that wants it has.
func (v *vertex) locate(err error) error {
	if v.source != nil && len(bkerrdefs.Sources(err)) == 0 {
		for _, l := range v.source.Locations {
			if i := int(l.SourceIndex); i >= 0 && i < len(v.infos) {
				err = bkerrdefs.WithSource(err, &bkerrdefs.Source{Info: v.infos[i], Ranges: l.Ranges})
			}
		}
	}
	return err
}

func notGranted(v *vertex, what, try string) error {
	err := error(&fault.Error{
		Code: "not-granted", What: fmt.Sprintf("the step %q needs %s", v.name, what),
		Cause: what + " is not allowed", Try: "allow it for this build: " + try, Class: errdefs.ErrPermissionDenied,
	})
	return bkerrdefs.WrapVertex(err, v.digest)
}

// unknownImage says more of an image that is not to be had: COPY --from and FROM take what is no stage for an image.
func (j *job) unknownImage(ref string, err error) error {
	if !errdefs.IsNotFound(err) && !errdefs.IsPermissionDenied(err) && !errdefs.IsUnauthorized(err) && !errdefs.IsUnavailable(err) {
		return err
	}
	named, parseErr := reference.ParseNormalizedNamed(ref)
	if parseErr != nil {
		return err
	}
	word := strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	if strings.ContainsAny(word, "/:@") {
		return err
	}
	stages := j.stages()
	if slices.Contains(stages, word) {
		return &fault.Error{
			Code: "later-stage", What: fmt.Sprintf("the stage %s comes later in this Dockerfile", word), Cause: "a stage can be based on earlier ones only, and there is no such image",
			Try: "move it up", Class: errdefs.ErrInvalidArgument, Err: err,
		}
	}
	near := typo.Nearest(word, stages)
	if near == "" {
		return err
	}
	return &fault.Error{
		Code: "unknown-stage", What: fmt.Sprintf("%s is neither a stage of this Dockerfile nor an image", word),
		Cause: fault.Text(err), Try: "write " + near + ", which is a stage", Class: errdefs.ErrNotFound, Err: err,
	}
}

// command is a RUN's command as docker's message has it.
func command(e *pb.ExecOp) string { return strings.Join(e.Meta.Args, " ") }
