package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/kistdev/kist/internal/task"
)

// Sample is what the two processes hold.
type Sample struct {
	Daemon, Keeper task.Use
	// RSS are the resident bytes.
	DaemonRSS, KeeperRSS int64
}

// settled is how long goroutines of pools wait for more to do.
const settled = 3 * time.Second

// Measure clears up what is the machine's to clear up, lets things come to rest, and takes the lowest counts it sees in that
// time and after.
func (s *Soak) Measure(ctx context.Context, rest time.Duration) (Sample, error) {
	if err := s.prune(ctx); err != nil {
		return Sample{}, err
	}
	time.Sleep(settled)
	lowest, err := s.sample(ctx)
	for until := time.Now().Add(rest); err == nil && time.Now().Before(until); {
		time.Sleep(200 * time.Millisecond)
		var now Sample
		now, err = s.sample(ctx)
		lower(&lowest.Daemon, now.Daemon)
		lower(&lowest.Keeper, now.Keeper)
		lowest.DaemonRSS, lowest.KeeperRSS = min(lowest.DaemonRSS, now.DaemonRSS), min(lowest.KeeperRSS, now.KeeperRSS)
	}
	return lowest, err
}

func lower(l *task.Use, now task.Use) {
	l.Goroutines, l.Descriptors = min(l.Goroutines, now.Goroutines), min(l.Descriptors, now.Descriptors)
	l.HeapBytes, l.MappedBytes = min(l.HeapBytes, now.HeapBytes), min(l.MappedBytes, now.MappedBytes)
}

func (s *Soak) prune(ctx context.Context) error {
	_, err := s.docker.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: make(client.Filters).Add("label!", "resident")})
	if err == nil {
		_, err = s.docker.ImagePrune(ctx, client.ImagePruneOptions{})
	}
	if err == nil {
		_, err = s.docker.BuildCachePrune(ctx, client.BuildCachePruneOptions{All: true})
	}
	if err == nil {
		_, err = s.docker.NetworkPrune(ctx, client.NetworkPruneOptions{})
	}
	if err == nil {
		_, err = s.docker.VolumePrune(ctx, client.VolumePruneOptions{All: true})
	}
	return err
}

func (s *Soak) sample(ctx context.Context) (Sample, error) {
	var now Sample
	if err := s.debug(ctx, "use", func(raw []byte) error { return json.Unmarshal(raw, &now) }); err != nil {
		return now, err
	}
	var err error
	if now.DaemonRSS, err = s.rss("kistd"); err == nil {
		now.KeeperRSS, err = s.rss("kist", "keeper")
	}
	return now, err
}

// debug asks for what the daemon tells about itself, on a connection that is closed at once.
func (s *Soak) debug(ctx context.Context, what string, take func(raw []byte) error) error {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.host.Socket())
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kist/kist/debug/"+what, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", what, resp.Status, raw.String())
	}
	return take(raw.Bytes())
}

// Goroutines says where the daemon's goroutines are.
func (s *Soak) Goroutines(ctx context.Context) string {
	var text string
	if err := s.debug(ctx, "goroutines", func(raw []byte) error { text = string(raw); return nil }); err != nil {
		return err.Error()
	}
	return text
}

// rss is what a process has in memory.
func (s *Soak) rss(program string, args ...string) (int64, error) {
	pids, err := s.host.Processes(program, args...)
	if err != nil {
		return 0, err
	}
	if len(pids) != 1 {
		return 0, fmt.Errorf("want one process %s, found %v", program, pids)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0, fmt.Errorf("resident memory of %s: %w", program, err)
	}
	return kb << 10, nil
}

// String is a row for people.
func (s Sample) String() string {
	one := func(u task.Use, rss int64) string {
		return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MB heap, %.1f MB mapped, %.1f MB resident", u.Goroutines, u.Descriptors,
			float64(u.HeapBytes)/1e6, float64(u.MappedBytes)/1e6, float64(rss)/1e6)
	}
	return "daemon " + one(s.Daemon, s.DaemonRSS) + "; keeper " + one(s.Keeper, s.KeeperRSS)
}

// More says what a sample has more than another one, beyond a tolerance of a few; empty if nothing. Memory is not compared.
func (s Sample) More(than Sample, tolerance int) string {
	var more []string
	check := func(what string, now, before int) {
		if now > before+tolerance {
			more = append(more, fmt.Sprintf("%s: %d, before %d", what, now, before))
		}
	}
	check("goroutines of the daemon", s.Daemon.Goroutines, than.Daemon.Goroutines)
	check("descriptors of the daemon", s.Daemon.Descriptors, than.Daemon.Descriptors)
	check("goroutines of the keeper", s.Keeper.Goroutines, than.Keeper.Goroutines)
	check("descriptors of the keeper", s.Keeper.Descriptors, than.Keeper.Descriptors)
	return strings.Join(more, "; ")
}
