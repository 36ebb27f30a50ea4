package build

import (
	"context"
	"io"
	"net"

	"github.com/moby/buildkit/client"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/kistdev/kist/internal/sys"
)

// Request is one build. Exactly one of Frontend and Definition says what to build; both are empty in a Build, where a
// function does.
type Request struct {
	// Ref names the build; empty makes a name up.
	Ref string
	// Frontend is "dockerfile.v0", the one that is built in, or "gateway.v0" naming it; Attrs are its options as BuildKit's
	// clients write them ("target", "build-arg:NAME", "context:NAME", "no-cache", "platform", ...).
	Frontend string
	Attrs    map[string]string
	// Inputs are named graphs for the frontend.
	Inputs map[string]*pb.Definition
	// Definition is a graph in BuildKit's low-level language.
	Definition *pb.Definition
	// Evaluate runs the whole graph even if nothing is exported.
	Evaluate bool
	Session  Session
	Exports  []Export
	// CacheFrom and CacheTo are where results are looked for and written to, beside the own store.
	CacheFrom, CacheTo []CacheOption
	// Entitlements that the client grants: "network.host", "security.insecure".
	Entitlements []string
	// Internal builds are made by tools for their own needs: they do not count in what is remembered for explanations.
	Internal bool
	// Record wants the provenance of the results in the response, for a history of builds.
	Record bool
}

// Export is one thing to make of the result.
type Export struct {
	// ID tells exports of one build apart for the session; buildx counts them from 0.
	ID int
	// Type is "image" (also "moby"), "docker", "oci", "tar" or "local".
	Type  string
	Attrs map[string]string
}

// CacheOption is one --cache-from or --cache-to: Type is "registry", "local" or "inline".
type CacheOption struct {
	Type  string
	Attrs map[string]string
}

// LocalOptions say what of a directory at the client is wanted.
type LocalOptions struct {
	Include, Exclude, FollowPaths []string
	// SharedKey names the directory over several builds, if the client told one.
	SharedKey string
	// Whole says that a copy is to be made anew, without asking what an earlier one has (BuildKit's "local.differ" is "none").
	Whole bool
	// Session is the session that has the directory, as the frontend put it: of a target that another one builds on, it is
	// not the build's own.
	Session string
}

// Tree is a file tree for a local export. Prefix is the directory for it below the destination ("linux_amd64", or
// empty); Files are written beside what Root holds, Root may be nil.
type Tree struct {
	Prefix string
	Root   *sys.Root
	Files  map[string][]byte
}

// Session is the client's side of one build: what is asked of whoever called. It must be safe for concurrent use.
// Something that the client does not have is an errdefs.ErrNotFound.
type Session interface {
	// ID names the session; frontends put it into what they ask for.
	ID() string
	// Local gives a directory of the client, in place or as a copy of what was asked for. InPlace says that the directory is
	// the client's own, so that the options have not been applied. Key is the name of the stat cache for it: the same for
	// the same directory at the next build. Release must be called.
	Local(ctx context.Context, name string, o LocalOptions) (*LocalDir, error)
	// Secret is a secret's value.
	Secret(ctx context.Context, id string) ([]byte, error)
	// SSH connects to an agent of the client; "default" is the one without a name.
	SSH(ctx context.Context, id string) (net.Conn, error)
	// Credentials for a registry; nil means none.
	Credentials(ctx context.Context, host string) (*apiregistry.AuthConfig, error)
	// Output opens where the file that an export of type oci, docker or tar makes goes. If what it opens has an Abort method,
	// that is called instead of Close when the export fails.
	Output(ctx context.Context, export int, attrs map[string]string) (io.WriteCloser, error)
	// OutputTrees takes the trees of a local export.
	OutputTrees(ctx context.Context, export int, trees []Tree) error
	// Content opens a content store of the client (an OCI layout, for contexts and caches): the blob by its digest, or
	// index.json for an empty digest, where the store can be listed.
	Content(ctx context.Context, store, digest string) (io.ReadCloser, error)
	// Upload is a stream that the client offers under a URL of the host "buildkit-session": a context as a tar.
	Upload(ctx context.Context, url string) (io.ReadCloser, error)
	// PutContent writes a blob, or index.json for an empty digest, into a content store of the client (--cache-to type=local).
	PutContent(ctx context.Context, store, digest string, size int64, r io.Reader) error
}

// LocalDir is what Session.Local gives.
type LocalDir struct {
	Dir     string
	Key     string
	InPlace bool
	Release func()
}

// Response is what a build made.
type Response struct {
	// Ref of the build.
	Ref string
	// Exporter is what clients write to --metadata-file and --iidfile: "containerimage.digest", "containerimage.config.digest",
	// "image.name", "containerimage.descriptor", cache exports' keys, "buildx.build.ref" is the client's to add.
	Exporter map[string]string
	// Metadata is the frontend's own result, such as "result.json" and "result.txt" of --check; the keys of subrequests.
	Metadata map[string][]byte
	Summary  Summary
	// Provenance says how each result came to be, by its platform; a single result has none. It is there if the request wants
	// a record.
	Provenance map[string]Provenance
}

// Provenance is the predicate of a statement, and what kind it is of.
type Provenance struct {
	PredicateType string
	Predicate     []byte
}

// Summary is one build in short.
type Summary struct {
	// Steps counts those that the user wrote; Cached those of them that did not need to run.
	Steps, Cached int
	// Line is for people: "8 of 9 steps cached; step 6 ran because package.json changed".
	Line string
	// Explained tells every step, in the order of the Dockerfile.
	Explained []Step
}

// Step is one step of a build explained.
type Step struct {
	// Name is the step as progress shows it: "[build 3/9] RUN make".
	Name   string
	Cached bool
	// Reason says why it ran, or what its result was taken from: "package.json changed".
	Reason string
	// Milliseconds it took.
	Milliseconds int64
}

// Status takes the progress of a build. It is called by one goroutine at a time; what it gets must not be changed. Vertices,
// logs and warnings come in BuildKit's form.
type Status func(*client.SolveStatus)

// Gateway is what a client with a frontend of its own runs: it is given the gateway of its build, and returns the result.
type Gateway = gwclient.BuildFunc
