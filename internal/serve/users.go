package serve

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/crypto/bcrypt"
)

// users are those who may use the registry.
type users struct {
	hashes map[string]string // bcrypt, by name
	nobody []byte            // what a name that does not exist is compared with, so that it takes as long
	secret []byte

	mu    sync.Mutex // guards known
	known map[[sha256.Size]byte]bool
}

// keptUsers bounds how many proven passwords are remembered: bcrypt is slow on purpose, and a pull makes many requests.
const keptUsers = 256

// parseUsers reads an htpasswd file; nil for none.
func parseUsers(raw []byte) (*users, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	u := &users{hashes: map[string]string{}, secret: []byte(rand.Text()), known: map[[sha256.Size]byte]bool{}}
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("htpasswd: line %d is not user:hash: %w", i+1, errdefs.ErrInvalidArgument)
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("htpasswd: the password of %s is no bcrypt hash (htpasswd -B makes one): %w: %w", name, err, errdefs.ErrInvalidArgument)
		}
		u.hashes[name] = hash
	}
	if len(u.hashes) == 0 {
		return nil, fmt.Errorf("htpasswd: nobody is in it: %w", errdefs.ErrInvalidArgument)
	}
	nobody, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), bcrypt.DefaultCost)
	u.nobody = nobody
	return u, err
}

// check says whether the password is the user's.
func (u *users) check(name, password string) bool {
	mac := hmac.New(sha256.New, u.secret)
	fmt.Fprintf(mac, "%d:%s:%s", len(name), name, password)
	key := [sha256.Size]byte(mac.Sum(nil))
	u.mu.Lock()
	known := u.known[key]
	u.mu.Unlock()
	if known {
		return true
	}
	hash, ok := u.hashes[name]
	if !ok {
		hash = string(u.nobody)
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !ok {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known) >= keptUsers {
		clear(u.known)
	}
	u.known[key] = true
	return true
}

// authenticate asks for a password where one is needed.
func (c *call) authenticate() error {
	if c.s.users == nil {
		return nil
	}
	name, password, ok := c.r.BasicAuth()
	if ok && c.s.users.check(name, password) {
		c.user = name
		return nil
	}
	if ok {
		c.report("refused", "login as "+name[:min(len(name), 100)], "")
	}
	c.w.Header().Set("WWW-Authenticate", `Basic realm="kist registry"`)
	return &refusal{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: "a user name and a password are needed"}
}
