package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/engine"
)

// routeStreams adds what streams: attach, logs, stats, archives, and execs.
func (s *Server) routeStreams() {
	s.handle("POST /containers/{id}/attach", s.containerAttach)
	s.handle("GET /containers/{id}/attach/ws", s.containerAttachWS)
	s.handle("GET /containers/{id}/logs", s.containerLogs)
	s.handle("GET /containers/{id}/stats", s.containerStats)
	s.handle("GET /containers/{id}/export", s.containerExport)
	s.handle("HEAD /containers/{id}/archive", s.archiveStat)
	s.handle("GET /containers/{id}/archive", s.archiveGet)
	s.handle("PUT /containers/{id}/archive", s.archivePut)
	s.handle("POST /containers/{id}/exec", s.execCreate)
	s.handle("POST /exec/{id}/start", s.execStart)
	s.handle("POST /exec/{id}/resize", s.execResize)
	s.handle("GET /exec/{id}/json", s.execInspect)
}

func (s *Server) containerAttach(w http.ResponseWriter, r *request) error {
	err := s.Containers.Attach(r.Context(), r.PathValue("id"), engine.AttachOptions{
		Stdin: r.boolean("stdin"), Stdout: r.boolean("stdout"), Stderr: r.boolean("stderr"),
		Logs: r.boolean("logs"), Stream: r.boolean("stream"),
		DetachKeys: r.query().Get("detachKeys"),
		Hijack:     hijack(w, r),
	})
	return err
}

// flusher sends each write on at once.
type flusher struct {
	w io.Writer
	c *http.ResponseController
}

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.c.Flush()
}

func (s *Server) containerLogs(w http.ResponseWriter, r *request) error {
	q := r.query()
	o := engine.LogsOptions{
		Stdout: r.boolean("stdout"), Stderr: r.boolean("stderr"), Follow: r.boolean("follow"),
		Timestamps: r.boolean("timestamps"), Details: r.boolean("details"), Tail: -1,
	}
	if !o.Stdout && !o.Stderr {
		return fmt.Errorf("Bad parameters: you must choose at least one stream: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // docker's words
	}
	var err error
	if o.Since, err = moment(q.Get("since")); err != nil {
		return err
	}
	if o.Until, err = moment(q.Get("until")); err != nil {
		return err
	}
	if t := q.Get("tail"); t != "" && t != "all" {
		if n, err := strconv.Atoi(t); err == nil && n >= 0 { // Docker takes anything else for "all".
			o.Tail = n
		}
	}
	o.Begin = func(tty bool) (io.Writer, error) {
		w.Header().Set("Content-Type", streamType(r.version, tty))
		w.WriteHeader(http.StatusOK)
		c := http.NewResponseController(w)
		return flusher{w, c}, c.Flush()
	}
	err = s.Containers.Logs(r.Context(), r.PathValue("id"), o)
	if r.Context().Err() != nil {
		return nil //nolint:nilerr // the reader went away: the usual end of following
	}
	return err
}

// moment reads docker's times: seconds since 1970 with a fraction, or RFC 3339. Clients turn all other forms into these.
func moment(raw string) (time.Time, error) {
	if raw == "" || raw == "0" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, raw); err == nil {
		return t, nil
	}
	whole, fraction, _ := strings.Cut(raw, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid time %q: want seconds since 1970 or RFC 3339: %w", raw, errdefs.ErrInvalidArgument)
	}
	var nsec int64
	if fraction != "" {
		nsec, err = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("invalid time %q: %w", raw, errdefs.ErrInvalidArgument)
		}
	}
	return time.Unix(sec, nsec), nil
}

func (s *Server) containerStats(w http.ResponseWriter, r *request) error {
	stream := r.booleanOr("stream", true)
	oneShot := r.boolean("one-shot")
	if stream && oneShot {
		return fmt.Errorf("cannot have stream=true and one-shot=true: %w", errdefs.ErrInvalidArgument)
	}
	enc := json.NewEncoder(w)
	c := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/json")
	err := s.Containers.Stats(r.Context(), r.PathValue("id"), stream, oneShot, func(sample *container.StatsResponse) error {
		if err := enc.Encode(sample); err != nil {
			return err
		}
		return c.Flush()
	})
	if r.Context().Err() != nil {
		return nil //nolint:nilerr // the reader went away: the usual end of following
	}
	return err
}

func (s *Server) containerExport(w http.ResponseWriter, r *request) error {
	return s.Containers.Export(r.Context(), r.PathValue("id"), func() (io.Writer, error) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
		return w, nil
	})
}

func setPathStat(w http.ResponseWriter, st *container.PathStat) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(raw))
	return nil
}

func archivePath(r *request) (string, error) {
	path := r.query().Get("path")
	if path == "" {
		return "", fmt.Errorf("bad parameter: path cannot be empty: %w", errdefs.ErrInvalidArgument)
	}
	return path, nil
}

func (s *Server) archiveStat(w http.ResponseWriter, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	st, err := s.Containers.StatPath(r.Context(), r.PathValue("id"), path)
	if err != nil {
		return err
	}
	if err := setPathStat(w, st); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) archiveGet(w http.ResponseWriter, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	return s.Containers.GetArchive(r.Context(), r.PathValue("id"), path, func(st *container.PathStat) (io.Writer, error) {
		if err := setPathStat(w, st); err != nil {
			return nil, err
		}
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		return w, nil
	})
}

func (s *Server) archivePut(w http.ResponseWriter, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	err = s.Containers.PutArchive(r.Context(), r.PathValue("id"), path, r.Body, engine.PutArchiveOptions{
		NoOverwriteDirNonDir: r.boolean("noOverwriteDirNonDir"),
		CopyUIDGID:           r.boolean("copyUIDGID"),
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) execCreate(w http.ResponseWriter, r *request) error {
	var req container.ExecCreateRequest
	if err := r.decode(&req, false); err != nil {
		return err
	}
	if r.version < 42 {
		req.ConsoleSize = nil
	}
	if len(req.Cmd) == 0 {
		return fmt.Errorf("No exec command specified: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // docker's words
	}
	if to := r.scope(); to != nil {
		if err := to.Exec(req); err != nil {
			return err
		}
	}
	id, err := s.Containers.ExecCreate(r.Context(), r.PathValue("id"), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.ExecCreateResponse{ID: id})
}

func (s *Server) execStart(w http.ResponseWriter, r *request) error {
	var req container.ExecStartRequest
	if err := r.decode(&req, true); err != nil {
		return err
	}
	o := engine.ExecStartOptions{Detach: req.Detach, TTY: req.Tty, ConsoleSize: req.ConsoleSize}
	if r.version < 42 {
		o.ConsoleSize = nil
	}
	if !req.Detach {
		o.Hijack = hijack(w, r)
		if strings.HasPrefix(r.UserAgent(), "kist/") { // Others' users know docker's line.
			o.Say = lines
		}
	}
	if err := s.Containers.ExecStart(r.Context(), r.PathValue("id"), o); err != nil {
		return err
	}
	if req.Detach {
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

func (s *Server) execResize(w http.ResponseWriter, r *request) error {
	rows, cols, err := size(r)
	if err != nil {
		return err
	}
	if err := s.Containers.ExecResize(r.Context(), r.PathValue("id"), rows, cols); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) execInspect(w http.ResponseWriter, r *request) error {
	resp, err := s.Containers.ExecInspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}
