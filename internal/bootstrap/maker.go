package bootstrap

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/runstep"
)

// Commands runs commands as containers; *runstep.Runner.
type Commands interface {
	Run(ctx context.Context, r runstep.Request) ([]layer.Committed, error)
}

// Config is what a Maker is made of.
type Config struct {
	// Dir, below the data root, is where fetched files lie as long as they are needed.
	Dir      string
	Layers   *layer.Store
	Images   *image.Store
	Commands Commands
	// Root is where apt's configuration is looked for; empty means /.
	Root string
	// UserAgent that mirrors are told; Version goes into images' histories.
	UserAgent, Version string
}

// Maker makes base images. It is safe for concurrent use.
type Maker struct {
	cfg Config
	// patience is the pause before a mirror is asked a second time; it doubles.
	patience time.Duration
}

// rootPrefix begins the names of the writable layers that images are made in.
const rootPrefix = "bootstrap-"

// Open makes the directory, and removes what an interrupted process left.
func Open(ctx context.Context, c Config) (*Maker, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open bootstrap: %w", err)
	}
	if c.Root == "" {
		c.Root = "/"
	}
	ids, err := c.Layers.Prepared()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		if strings.HasPrefix(id, rootPrefix) {
			errs = append(errs, c.Layers.Remove(ctx, id))
		}
	}
	left, err := filepath.Glob(filepath.Join(c.Dir, tempPattern))
	errs = append(errs, err)
	for _, name := range left {
		errs = append(errs, os.Remove(name))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("clear up behind an interrupted bootstrap: %w", err)
	}
	return &Maker{cfg: c, patience: 300 * time.Millisecond}, nil
}

// job is one Make.
type job struct {
	m      *Maker
	req    bootmsg.Request
	report func(bootmsg.Message)
	target target
	apt    *aptHost
	net    *fetcher
	// archives in the order of their weight; the first one is the suite itself.
	archives []*archive
	index    *debian.Index
	texts    []*os.File // of the index
	// packages sorted by name.
	packages  []*debian.Package
	essential map[*debian.Package]bool
	arch      string
	// date is that of the latest archive, epoch what nothing in the image is later than.
	date, epoch time.Time
	times       map[string]int64
}

// Make makes an image, or says which packages it would have. report is called from one goroutine at a time.
func (m *Maker) Make(ctx context.Context, req bootmsg.Request, report func(bootmsg.Message)) (*bootmsg.Result, error) {
	began := time.Now()
	j := &job{m: m, req: req, report: serial(report), times: map[string]int64{}}
	if err := j.check(); err != nil {
		return nil, err
	}
	defer func() {
		if j.net != nil {
			j.net.close()
		}
	}()
	defer j.closeLists()
	if err := j.stage(bootmsg.StageLists, func() error { return j.lists(ctx) }); err != nil {
		return nil, content.ExplainFull(m.cfg.Dir, err)
	}
	res := j.result()
	if req.List {
		return res, nil
	}
	err := j.build(ctx, res)
	j.times[""] = time.Since(began).Milliseconds()
	res.Milliseconds = j.times
	return res, err
}

// stage measures a part of the work.
func (j *job) stage(name string, fn func() error) error {
	began := time.Now()
	err := fn()
	j.times[name] = time.Since(began).Milliseconds()
	return err
}

func (j *job) note(format string, args ...any) {
	j.report(bootmsg.Message{Note: fmt.Sprintf(format, args...)})
}

func (j *job) result() *bootmsg.Result {
	first := j.archives[0]
	res := &bootmsg.Result{
		Name: j.target.tag, Suite: first.release.Codename, Date: j.date.Format(time.RFC3339), Signer: first.signer.Name,
	}
	if res.Suite == "" {
		res.Suite = first.suite
	}
	for _, p := range j.packages {
		res.Packages = append(res.Packages, bootmsg.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, Size: p.File.Size})
		res.Fetched += p.File.Size
	}
	return res
}

// newID makes up the name of a writable layer.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return rootPrefix + hex.EncodeToString(b[:])
}
