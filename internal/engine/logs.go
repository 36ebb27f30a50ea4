package engine

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/logfile"
)

// LogsOptions for Logs.
type LogsOptions struct {
	Stdout, Stderr, Follow, Timestamps, Details bool
	Since, Until                                time.Time
	Tail                                        int // negative: all
	// Begin is called once everything has been validated, with whether the container has a terminal; it returns where
	// the records go: framed as docker does without a terminal, raw with one. The engine writes the bytes.
	Begin func(tty bool) (io.Writer, error)
}

// Logs writes the container's log; with Follow it goes on until the container stops, restarts included.
func (e *Engine) Logs(ctx context.Context, name string, o LogsOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	over, _ := c.signals()
	d, st := c.look()
	config, err := e.logConfig(d)
	if err != nil {
		return err
	}
	if config.Driver == "none" {
		return unserved("configured logging driver does not support reading")
	}
	w, err := o.Begin(d.Config.Tty)
	if err != nil {
		return err
	}
	out := logWriter{w: w, framed: !d.Config.Tty, timestamps: o.Timestamps, details: o.Details}
	return logfile.Read(ctx, config, logfile.ReadOptions{
		Stdout: o.Stdout, Stderr: o.Stderr, Since: o.Since, Until: o.Until, Tail: o.Tail,
		Follow: o.Follow && (st.Phase.alive() || st.Phase == restarting), Done: over.done,
	}, out.record)
}

// logConfig is where the container's output goes.
func (e *Engine) logConfig(d *definition) (logfile.Config, error) {
	options := d.HostConfig.LogConfig.Config
	l, err := logfile.ParseConfig(d.HostConfig.LogConfig.Type, e.logPath(d.ID), options)
	if err != nil || len(options) == 0 {
		return l, err
	}
	l.Attrs, err = logfile.Attributes(options, logfile.Container{
		ID: d.ID, Name: d.Name, ImageID: d.Image.String(), ImageName: d.Config.Image, DaemonName: "kist",
		Labels: d.Config.Labels, Env: d.Config.Env,
	})
	return l, err
}

// logWriter writes records as docker's clients expect them.
type logWriter struct {
	w                           io.Writer
	framed, timestamps, details bool
	buf                         []byte
}

// fixedNano is RFC 3339 with all nine digits, so that columns stand in line.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

func (l *logWriter) record(r logfile.Record) error {
	b := l.buf[:0]
	if l.framed {
		b = append(b, frameHeader(r.Stream, 0)...)
	}
	if l.timestamps {
		b = r.Time.UTC().AppendFormat(b, fixedNano)
		b = append(b, ' ')
	}
	if l.details {
		b = append(b, attributes(r.Attrs)...)
		b = append(b, ' ')
	}
	b = append(b, r.Line...)
	if l.framed {
		binary.BigEndian.PutUint32(b[4:8], uint32(len(b)-8))
	}
	l.buf = b
	_, err := l.w.Write(b)
	return err
}

// frameHeader is what comes before each piece of output on a connection that carries both streams.
func frameHeader(stream string, size int) []byte {
	h := make([]byte, 8)
	h[0] = 1
	if stream == "stderr" {
		h[0] = 2
	}
	binary.BigEndian.PutUint32(h[4:], uint32(size))
	return h
}

func attributes(attrs map[string]string) string {
	pairs := make([]string, 0, len(attrs))
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(attrs[key]))
	}
	return strings.Join(pairs, ",")
}
