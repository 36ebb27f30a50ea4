package build

import (
	"log/slog"
	"time"
)

// Limits of the build cache, which is collected by itself.
type Limits struct {
	// Keep is the size in bytes up to which the cache may grow. 0 means a fifth of the file system.
	Keep int64
	// MinFree is what stays free on the file system: 0 means a twentieth of it.
	MinFree int64
	// Age is how long something is kept that nobody uses. 0 means 60 days.
	Age time.Duration
}

// collectEvery is how often the cache is looked through when nothing is built.
const collectEvery = 30 * time.Minute

// collectAfter is how long builds may go on before it is done among them.
const collectAfter = 5 * time.Minute

// collectBehind looks after the cache's size and age as long as the builder is open.
func (b *Builder) collectBehind() {
	b.wg.Go(func() {
		tick := time.NewTicker(collectEvery)
		defer tick.Stop()
		last := time.Now() // Not in the way of the first build.
		for {
			select {
			case <-b.ctx.Done():
				return
			case <-tick.C:
			case <-b.built:
				if time.Since(last) < collectAfter {
					continue
				}
			}
			last = time.Now()
			if err := b.collect(); err != nil && b.ctx.Err() == nil {
				slog.Warn("the build cache could not be collected", "error", err)
			}
		}
	})
}

// collect removes what is too old, and of the rest what is too much.
func (b *Builder) collect() error {
	_, size, err := b.disk()
	if err != nil {
		return err
	}
	l := b.cfg.Limits
	if l.Keep == 0 {
		l.Keep = size / 5
	}
	if l.MinFree == 0 {
		l.MinFree = size / 20
	}
	if l.Age == 0 {
		l.Age = 60 * 24 * time.Hour
	}
	if _, err := b.Prune(b.ctx, PruneOptions{All: true, KeepFor: l.Age}, nil); err != nil {
		return err
	}
	_, err = b.Prune(b.ctx, PruneOptions{MaxUsed: l.Keep, MinFree: l.MinFree}, nil)
	return err
}
