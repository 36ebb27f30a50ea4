package build

import (
	"bytes"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// noteDockerfile keeps a file that a frontend read before it built anything: the Dockerfile.
func (j *job) noteDockerfile(raw []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dockerfile == nil {
		j.dockerfile = raw
	}
}

// stages are the names of the Dockerfile's stages; none if it cannot be read.
func (j *job) stages() []string {
	stages := j.parsed()
	names := make([]string, 0, len(stages))
	for _, s := range stages {
		names = append(names, s.Name)
	}
	return names
}

// parsed are the Dockerfile's stages; none if it cannot be read.
func (j *job) parsed() []instructions.Stage {
	j.mu.Lock()
	raw := j.dockerfile
	j.mu.Unlock()
	parsed, err := parser.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil
	}
	return stages
}
