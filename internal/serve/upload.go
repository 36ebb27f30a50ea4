package serve

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Bounds of uploads under way.
const (
	uploadIdle = 20 * time.Minute
	maxUploads = 512
	// maxBlob is more than any layer has.
	maxBlob = 1 << 40
)

// uploads are those under way, by id.
type uploads struct {
	mu   sync.Mutex // guards list
	list map[string]*session
}

// session is one upload under way.
type session struct {
	id, repo string
	busy     chan struct{} // has room for the one request that may use it
	up       upload
	used     time.Time // guarded by uploads.mu
}

func (u *uploads) add(repo string, up upload) (*session, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.list) >= maxUploads {
		return nil, &refusal{status: http.StatusTooManyRequests, code: "TOOMANYREQUESTS", message: "too many uploads are under way"}
	}
	s := &session{id: strings.ToLower(rand.Text()), repo: repo, up: up, busy: make(chan struct{}, 1), used: time.Now()}
	if u.list == nil {
		u.list = map[string]*session{}
	}
	u.list[s.id] = s
	return s, nil
}

// take gives the session to one request.
func (u *uploads) take(repo, id string) (*session, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.list[id]
	if s == nil || s.repo != repo {
		return nil, &refusal{status: http.StatusNotFound, code: "BLOB_UPLOAD_UNKNOWN", message: "there is no such upload; it may have been idle for too long"}
	}
	select {
	case s.busy <- struct{}{}:
	default:
		return nil, &refusal{status: http.StatusConflict, code: "BLOB_UPLOAD_INVALID", message: "another request is writing to this upload"}
	}
	return s, nil
}

// leave gives the session back; an ended one is forgotten.
func (u *uploads) leave(s *session, ended bool) {
	u.mu.Lock()
	s.used = time.Now()
	if ended {
		delete(u.list, s.id)
	}
	u.mu.Unlock()
	if ended {
		_ = s.up.Close() // A second time after its Commit, or given up.
	}
	<-s.busy
}

// closeIdle gives up what nobody has written to since a time.
func (u *uploads) closeIdle(since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, s := range u.list {
		if s.used.Before(since) && len(s.busy) == 0 {
			delete(u.list, id)
			_ = s.up.Close()
		}
	}
}

func (u *uploads) closeAll() { u.closeIdle(time.Now().Add(time.Hour)) }

// upload serves everything below /blobs/uploads/.
func (c *call) upload(id string) error {
	if err := c.writes(); err != nil {
		return err
	}
	if id == "" {
		if c.r.Method != http.MethodPost {
			return c.method("POST")
		}
		return c.beginUpload()
	}
	if err := c.checkName(); err != nil {
		return err
	}
	s, err := c.s.uploads.take(c.repo, id)
	if err != nil {
		return err
	}
	ended := false
	defer func() { c.s.uploads.leave(s, ended) }()
	switch c.r.Method {
	case http.MethodGet:
		c.progress(s)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodDelete:
		ended = true
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		if err := c.receive(s); err != nil {
			return err
		}
		c.progress(s)
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	case http.MethodPut:
		d, err := parseDigest(c.r.URL.Query().Get("digest"))
		if err != nil {
			return err
		}
		if err := c.receive(s); err != nil {
			return err
		}
		ended = true
		return c.finish(s.up, d)
	}
	return c.method("GET, PATCH, PUT, DELETE")
}

func (c *call) checkName() error {
	if named, err := reference.ParseNormalizedNamed(c.repo); err != nil || !reference.IsNameOnly(named) {
		return &refusal{status: http.StatusBadRequest, code: "NAME_INVALID", message: fmt.Sprintf("%q is no name of a repository", c.repo), err: err}
	}
	return nil
}

func (c *call) nameError(err error) error {
	if nerr := c.checkName(); nerr != nil {
		return nerr
	}
	return err
}

// beginUpload answers a POST: a blob that is here already, a whole one, or the beginning of one.
func (c *call) beginUpload() error {
	if err := c.checkName(); err != nil {
		return err
	}
	q := c.r.URL.Query()
	if raw := q.Get("mount"); raw != "" {
		d, err := parseDigest(raw)
		if err != nil {
			return err
		}
		if _, err := c.s.shelf.Hold(d); err == nil {
			return c.created(d)
		}
	}
	up, err := c.s.shelf.Upload()
	if err != nil {
		return err
	}
	s, err := c.s.uploads.add(c.repo, up)
	if err != nil {
		return errors.Join(err, up.Close())
	}
	if s, err = c.s.uploads.take(c.repo, s.id); err != nil {
		return err
	}
	ended := false
	defer func() { c.s.uploads.leave(s, ended) }()
	if raw := q.Get("digest"); raw != "" {
		ended = true
		d, err := parseDigest(raw)
		if err != nil {
			return err
		}
		if err := c.receive(s); err != nil {
			return err
		}
		return c.finish(up, d)
	}
	c.progress(s)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// progress says how much of an upload is here.
func (c *call) progress(s *session) {
	h := c.w.Header()
	h.Set("Location", "/v2/"+c.repo+"/blobs/uploads/"+s.id)
	h.Set("Docker-Upload-Uuid", s.id)
	h.Set("Oci-Chunk-Min-Length", "1")
	h.Set("Range", "0-"+itoa(max(s.up.Offset()-1, 0)))
}

// receive appends the request's body, which must begin where the upload stands.
func (c *call) receive(s *session) error {
	if field := c.r.Header.Get("Content-Range"); field != "" {
		first, last, _ := strings.Cut(strings.TrimPrefix(field, "bytes "), "-")
		from, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
		last, _, _ = strings.Cut(last, "/")
		to, lerr := strconv.ParseInt(strings.TrimSpace(last), 10, 64)
		if err != nil || lerr != nil {
			return &refusal{status: http.StatusBadRequest, code: "BLOB_UPLOAD_INVALID", message: "Content-Range is not FIRST-LAST"}
		}
		if from != s.up.Offset() || c.r.ContentLength >= 0 && to-from+1 != c.r.ContentLength {
			c.progress(s)
			return &refusal{
				status: http.StatusRequestedRangeNotSatisfiable, code: "BLOB_UPLOAD_INVALID",
				message: fmt.Sprintf("the upload stands at byte %d", s.up.Offset()),
			}
		}
	}
	if s.up.Offset()+c.r.ContentLength > maxBlob {
		return &refusal{status: http.StatusRequestEntityTooLarge, code: "SIZE_INVALID", message: "the blob is too large"}
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{s.up}, http.MaxBytesReader(c.w, c.r.Body, maxBlob), make([]byte, 256<<10))
	return err
}

func (c *call) finish(up upload, d digest.Digest) error {
	if err := up.Commit(d); err != nil {
		return err
	}
	return c.created(d)
}

func (c *call) created(d digest.Digest) error {
	c.w.Header().Set("Location", "/v2/"+c.repo+"/blobs/"+url.PathEscape(d.String()))
	c.w.Header().Set("Docker-Content-Digest", d.String())
	c.w.WriteHeader(http.StatusCreated)
	return nil
}
