// Package build turns a graph of build steps into images and files.
//
// # The life of a build
//
// A frontend (BuildKit's own for Dockerfiles, in process) turns a Dockerfile into graphs of operations in BuildKit's
// low-level language, and asks for their results through the gateway. A job runs each vertex at most once: its inputs
// first, side by side; then its key is computed of the operation and of what its inputs are; then the cache is asked for
// the key; and only then it runs. What a frontend returns is exported: as an image, a tar or files.
//
// The frontend is a function of its options and of what it is answered. Its questions are kept with the graphs that it made: while the
// answers stay the same, the next build of the same has the graphs without it (transcript).
//
// # Keys
//
// A result is a stack of layers, named by diff ids: digests of what they hold. What an operation stands on counts by
// these, what it copies from counts by the content of the files that it takes. So a step that ran again and made the same
// bytes spares the steps that follow.
//
// # Explanations
//
// A key is made of parts that have names for people: the command, a build argument, the files that are copied. The parts
// of the last build of the same Dockerfile are remembered; a step that ran did so because a part differs, and that is what
// the build says at its end.
package build

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/fetch"
	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/keyed"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

// Config is what a builder stands on.
type Config struct {
	// Dir is the builder's directory below the data root: stat caches, cache mounts, trees of other machines.
	Dir    string
	Cache  *Cache
	Layers *layer.Store
	Trees  *treesum.Cache
	Images *image.Store
	Events *event.Bus
	// Commands runs commands; nil refuses them.
	Commands Commands
	// Fetch gets files and repositories from the network.
	Fetch *fetch.Store
	// Mounts are the directories of cache mounts; nil means none.
	Mounts  Mounts
	Version string
	// Limits of the cache; the zero value chooses by the disk's size.
	Limits Limits
}

// Builder solves graphs. It is safe for concurrent use.
type Builder struct {
	cfg     Config
	cache   *Cache
	files   files
	flights flights
	// transcripts are those of some of the last builds: they spare the frontend.
	transcripts *keyed.Memo[taskKey, *transcript]
	execSlots   slots
	fileSlots   slots

	ctx    context.Context //nolint:containedctx // Ends with the builder, for what runs behind.
	cancel context.CancelFunc
	wg     sync.WaitGroup

	built  chan struct{} // a build has ended
	mu     sync.Mutex    // guards jobs, closed
	jobs   map[*job]bool
	closed bool
}

// Open opens the builder. What an interrupted build left is dropped by the stores that have it.
func Open(_ context.Context, c Config) (*Builder, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	return open(c, fileop.New(c.Layers, c.Trees)), nil
}

func open(c Config, f files) *Builder {
	b := &Builder{
		cfg: c, cache: c.Cache, files: f, jobs: map[*job]bool{}, built: make(chan struct{}, 1),
		transcripts: keyed.NewMemo[taskKey, *transcript](maxTranscripts),
		execSlots:   newSlots(max(8, 4*runtime.NumCPU())), fileSlots: newSlots(max(2, runtime.NumCPU())),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.collectBehind()
	return b
}

// Close ends builds under way and waits for them.
func (b *Builder) Close() error {
	b.mu.Lock()
	b.closed = true
	for j := range b.jobs {
		j.cancel(errClosing)
	}
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
	return nil
}

var errClosing = fmt.Errorf("the daemon is shutting down: %w", errdefs.ErrUnavailable)

// Solve runs a build whose graph or frontend is in the request, and exports its result.
func (b *Builder) Solve(ctx context.Context, r Request, status Status) (*Response, error) {
	return b.Build(ctx, r, nil, status)
}

// Build is Solve for a client with a frontend of its own: f gets the gateway of this build, and its result is exported.
// What f was given is not to be used after f has returned.
func (b *Builder) Build(ctx context.Context, r Request, f Gateway, status Status) (*Response, error) {
	j, err := b.newJob(ctx, &r, status)
	if err != nil {
		return nil, err
	}
	defer b.endJob(j)
	return j.build(f)
}

func (b *Builder) newJob(ctx context.Context, r *Request, status Status) (*job, error) {
	if r.Ref == "" {
		r.Ref = newID()
	}
	j := &job{
		b: b, req: r, ref: r.Ref, began: time.Now(), hold: b.cfg.Layers.Hold(), steps: map[stepID]*step{}, seen: map[*vertex]bool{}, definitions: map[*vertex]*definition{},
		images: map[string]*resolved{}, asked: map[string]bool{}, progress: newProgress(status),
	}
	j.ctx, j.cancel = context.WithCancelCause(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		j.cancel(errClosing)
		j.progress.close()
		return nil, errClosing
	}
	b.jobs[j] = true
	b.wg.Add(1)
	return j, nil
}

func (b *Builder) endJob(j *job) {
	j.end()
	j.progress.close()
	b.mu.Lock()
	delete(b.jobs, j)
	last := len(b.jobs) == 0
	b.mu.Unlock()
	if last {
		select {
		case b.built <- struct{}{}:
		default:
		}
	}
	b.wg.Done()
}

// sizeOf is what layers occupy.
func (b *Builder) sizeOf(layers []digest.Digest) int64 {
	var sum int64
	for _, d := range layers {
		if n, err := b.cfg.Layers.Size(d); err == nil { // One that is gone occupies nothing.
			sum += n
		}
	}
	return sum
}

// newID is a name that nothing else has: 64 hexadecimal digits.
func newID() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // It does not fail.
	return hex.EncodeToString(raw[:])
}

// slots bounds how many do something at a time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

func (s slots) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// announce tells clients of a graph's vertices.
func (j *job) announce(v *vertex) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress.known(v, j.seen)
}
