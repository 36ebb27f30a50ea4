package buildmsg

import (
	"time"

	"github.com/kistdev/kist/internal/fault"
)

// Message is one line of the answer. Progress has BuildKit's form, so that --progress=rawjson passes it on as it is.
type Message struct {
	Vertexes []Vertex  `json:"vertexes,omitempty"`
	Statuses []Status  `json:"statuses,omitempty"`
	Logs     []Log     `json:"logs,omitempty"`
	Warnings []Warning `json:"warnings,omitempty"`

	Want    *Want    `json:"want,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Vertex is a step as it is known, begins or ends.
type Vertex struct {
	Digest    string     `json:"digest,omitempty"`
	Name      string     `json:"name,omitempty"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
	Cached    bool       `json:"cached,omitempty"`
	Error     string     `json:"error,omitempty"`
	Group     *Group     `json:"progressGroup,omitempty"`
}

// Group is steps that are shown as one.
type Group struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	Weak bool   `json:"weak,omitempty"`
}

// Status is a part of a step.
type Status struct {
	ID        string     `json:"id"`
	Vertex    string     `json:"vertex,omitempty"`
	Name      string     `json:"name,omitempty"`
	Total     int64      `json:"total,omitempty"`
	Current   int64      `json:"current"`
	Timestamp time.Time  `json:"timestamp"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
}

// Log is output of a step.
type Log struct {
	Vertex    string    `json:"vertex,omitempty"`
	Stream    int       `json:"stream,omitempty"`
	Data      []byte    `json:"data"`
	Timestamp time.Time `json:"timestamp"`
}

// Warning is what a check of the Dockerfile says.
type Warning struct {
	Vertex string      `json:"vertex,omitempty"`
	Level  int         `json:"level,omitempty"`
	Short  []byte      `json:"short,omitempty"`
	Detail [][]byte    `json:"detail,omitempty"`
	URL    string      `json:"url,omitempty"`
	Source *SourceInfo `json:"sourceInfo,omitempty"`
	Range  []Range     `json:"range,omitempty"`
}

// SourceInfo is a file.
type SourceInfo struct {
	Filename string `json:"filename,omitempty"`
	Data     []byte `json:"data,omitempty"`
}

// Range is a part of a file.
type Range struct {
	Start Position `json:"start"`
	End   Position `json:"end"`
}

// Position counts lines from 1.
type Position struct {
	Line      int `json:"line,omitempty"`
	Character int `json:"character,omitempty"`
}

// Want asks the client for something of its machine, as a stream on POST /kist/build/give?want=ID. Kind is "dir" (an
// archive of the context Name, without what Exclude matches), "stream" (the archive that the context Name is), "ssh" (a
// connection to the agent Name), "auth" (Credentials as JSON for the registry Name) or "output" (the client receives what
// the output Index makes; Tree says that it is an archive to unpack).
type Want struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
	Index int    `json:"index"`
	Tree  bool   `json:"tree,omitempty"`
	// Include and Exclude are patterns as in .dockerignore; no Include means everything.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
}

// Result ends a build that succeeded.
type Result struct {
	// Ref of the build.
	Ref string `json:"ref"`
	// ID is the image's; empty if none was made.
	ID string `json:"id,omitempty"`
	// Names that the image has got.
	Names []string `json:"names,omitempty"`
	// Exporter is what --metadata-file holds.
	Exporter map[string]string `json:"exporter,omitempty"`
	// Metadata is a call's result.
	Metadata map[string][]byte `json:"metadata,omitempty"`
	// Summary is the build in a line, Steps the build explained.
	Summary string `json:"summary,omitempty"`
	Steps   []Step `json:"steps,omitempty"`
}

// Step is one step explained.
type Step struct {
	Name         string `json:"name"`
	Cached       bool   `json:"cached,omitempty"`
	Reason       string `json:"reason,omitempty"`
	Milliseconds int64  `json:"milliseconds"`
}

// Failure ends a build that did not.
type Failure struct {
	fault.Parts
	// Step is the name of the step that failed, Command what it ran, Tail the last that it said.
	Step     string  `json:"step,omitempty"`
	Command  string  `json:"command,omitempty"`
	ExitCode int     `json:"exitCode,omitempty"`
	Tail     []byte  `json:"tail,omitempty"`
	Places   []Place `json:"places,omitempty"`
}

// Place is a part of a file that is to blame: the lines around it, and which of them.
type Place struct {
	File  string   `json:"file"`
	First int      `json:"first"` // number of the first of Lines
	Lines []string `json:"lines"`
	Marks []Range  `json:"marks"`
}
