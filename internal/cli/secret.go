package cli

import (
	"fmt"
	"net/url"
	"os"
	"strconv"

	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
)

// secretFile is a file of a container's that exists in memory only.
type secretFile struct {
	ID             string
	Target         string  `json:",omitempty"`
	Mode, UID, GID *uint32 `json:",omitempty"`
	Data           []byte
}

// readSecret reads --secret id=NAME,src=FILE|env=VARIABLE, and the value.
func readSecret(text string) (*secretFile, error) {
	m, err := fields(text)
	if err != nil {
		return nil, fmt.Errorf("--secret: %w", err)
	}
	s := &secretFile{ID: m["id"], Target: m["target"]}
	if s.ID == "" {
		return nil, &hintedError{err: fmt.Errorf("--secret %s: the id is missing", text), try: "--secret id=NAME,src=FILE"}
	}
	for k, v := range m {
		switch k {
		case "id", "target", "src", "source", "env", "type":
		case "mode":
			s.Mode, err = number(v, 8)
		case "uid":
			s.UID, err = number(v, 10)
		case "gid":
			s.GID, err = number(v, 10)
		default:
			err = &hintedError{err: fmt.Errorf("there is no option %q", k), try: "id, src, env, target, mode, uid, gid"}
		}
		if err != nil {
			return nil, fmt.Errorf("--secret %s: %w", s.ID, err)
		}
	}
	if v := m["env"]; v != "" {
		if _, set := os.LookupEnv(v); !set {
			return nil, fmt.Errorf("--secret %s: the variable %s is not set", s.ID, v)
		}
	}
	if s.Data, err = secretValue(s.ID, m); err != nil {
		return nil, fmt.Errorf("--secret %s: %w", s.ID, err)
	}
	return s, nil
}

func number(s string, base int) (*uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number", s)
	}
	v := uint32(n)
	return &v, nil
}

// postWithSecrets makes a container that gets secrets. Docker's daemon has no such thing, and says so.
func postWithSecrets(cl *client.Client, flags []string, q url.Values, req *container.CreateRequest) (*container.CreateResponse, error) {
	type request struct {
		*container.CreateRequest
		Secrets []*secretFile
	}
	with := request{CreateRequest: req}
	for _, text := range flags {
		s, err := readSecret(text)
		if err != nil {
			return nil, err
		}
		with.Secrets = append(with.Secrets, s)
	}
	made, err := client.Ask[container.CreateResponse](cl, "/kist/containers/create", q, with)
	return made, ownOnly(err, "--secret")
}
