// Package buildmsg is what `kist build` and the daemon say to each other: POST /kist/build takes a Request as JSON and
// answers with a stream of Messages, one JSON document a line. It links nothing, because the command that uses it shall
// start at once.
//
//	client                                  daemon
//	  |-- POST /kist/build {Request} ------->|
//	  |<------ {"vertexes": ...} ------------|  progress, in BuildKit's own form
//	  |<------ {"want": {...}} --------------|  something of the client's machine
//	  |== POST /kist/build/give?want=ID ====>|  a raw stream: an archive, an agent's connection, an output
//	  |<------ {"result": ...} --------------|  or {"failure": ...}; then the answer ends
//
// A client on the daemon's machine names its directories, which are then read where they lie; wants come only from a
// daemon that cannot see them, for agents and for outputs.
package buildmsg

// Request is one build. Secrets travel in it, so it is written to no log.
type Request struct {
	// Context is what COPY copies from; Contexts are further ones by their name (--build-context).
	Context  Source
	Contexts map[string]Source `json:",omitempty"`
	// Dockerfile is a path: inside the context, or absolute at the client with DockerfileDir set. Text holds one that was
	// read from standard input.
	Dockerfile    string `json:",omitempty"`
	DockerfileDir *Dir   `json:",omitempty"`
	Text          []byte `json:",omitempty"`

	Tags          []string          `json:",omitempty"`
	Args          map[string]string `json:",omitempty"`
	Labels        map[string]string `json:",omitempty"`
	Annotations   map[string]string `json:",omitempty"`
	Target        string            `json:",omitempty"`
	Platforms     []string          `json:",omitempty"`
	NoCache       bool              `json:",omitempty"`
	NoCacheFilter []string          `json:",omitempty"`
	Pull          bool              `json:",omitempty"`

	Network      string   `json:",omitempty"`
	AddHosts     []string `json:",omitempty"`
	ShmSize      int64    `json:",omitempty"`
	Ulimits      []string `json:",omitempty"`
	CgroupParent string   `json:",omitempty"`
	Allow        []string `json:",omitempty"`

	Secrets map[string][]byte `json:",omitempty"`
	Agents  map[string]Agent  `json:",omitempty"`

	Outputs   []Output          `json:",omitempty"`
	CacheFrom []Option          `json:",omitempty"`
	CacheTo   []Option          `json:",omitempty"`
	Attests   map[string]string `json:",omitempty"`
	// Call is a frontend's method to call instead of a build: "lint", "outline", "targets".
	Call string `json:",omitempty"`
	// Provenance wants how the results came to be among what the exports tell, for --metadata-file: "min" or "max"; empty for not.
	Provenance string `json:",omitempty"`
	// Quiet says that nobody looks at the progress: it is left out, but for warnings.
	Quiet bool `json:",omitempty"`
	// Owner is whom files belong to that are written for the client on the daemon's machine.
	Owner *Owner `json:",omitempty"`
}

// Owner is a user and group.
type Owner struct{ UID, GID int }

// Source is where a context is. Exactly one field is set, but for an OCI layout, which has Ref and Dir.
type Source struct {
	// Dir is a directory of the client.
	Dir *Dir `json:",omitempty"`
	// Ref is a URL, a git repository, or what the frontend takes in a named context ("docker-image://alpine"). With
	// "oci-layout://PATH[:TAG][@DIGEST]" Dir is the layout's directory.
	Ref string `json:",omitempty"`
	// Stream is an archive that the client sends when it is wanted.
	Stream bool `json:",omitempty"`
	// Empty is a context without files.
	Empty bool `json:",omitempty"`
}

// Dir is a directory of the client. Dev and Ino say which one is meant, so that a daemon that sees another file system
// under the same path does not take its own.
type Dir struct {
	Path string
	Dev  uint64
	Ino  uint64
}

// Agent is an ssh agent: a socket of the client, or private keys as PEM.
type Agent struct {
	Socket string   `json:",omitempty"`
	Keys   [][]byte `json:",omitempty"`
}

// Output is one thing to make: "image", "docker", "oci", "tar" or "local" (docker's --output). What goes to a file or a
// directory has a path on the daemon's machine in Path, or is sent to the client as a stream if ToClient is set.
type Output struct {
	Type     string
	Attrs    map[string]string `json:",omitempty"`
	Path     string            `json:",omitempty"`
	ToClient bool              `json:",omitempty"`
}

// Option is one --cache-from or --cache-to.
type Option struct {
	Type  string
	Attrs map[string]string `json:",omitempty"`
}

// Credentials are what a client gives for a registry.
type Credentials struct {
	Username      string `json:",omitempty"`
	Password      string `json:",omitempty"`
	IdentityToken string `json:",omitempty"`
}
