// Package servemsg is what `kist registry serve` and the daemon say to each other.
package servemsg

// Request asks for a registry: POST /kist/registry/serve. It ends with the connection that asked for it.
type Request struct {
	// Address to listen on; empty is 127.0.0.1:5000.
	Address string `json:"address,omitempty"`
	// ReadOnly refuses whatever changes the store.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Open lets everybody push who reaches a registry without passwords.
	Open bool `json:"open,omitempty"`
	// Cert and Key, in PEM, have the registry speak TLS.
	Cert []byte `json:"cert,omitempty"`
	Key  []byte `json:"key,omitempty"`
	// Htpasswd lists who may in: lines of user:bcrypt.
	Htpasswd []byte `json:"htpasswd,omitempty"`
}

// Line is one line of the answer.
type Line struct {
	// Address says where the registry listens; in the first line only.
	Address string `json:"address,omitempty"`
	Event   *Event `json:"event,omitempty"`
	// Images are how many images it has to give; in the first line only.
	Images int `json:"images,omitempty"`
}

// Event is something that a client of the registry did.
type Event struct {
	// Action is pull, push, delete, or refused.
	Action string `json:"action"`
	// Name is the image: repository and tag or digest.
	Name   string `json:"name"`
	Digest string `json:"digest,omitempty"`
	// From is the client's address, User its name if it has one, Agent its program.
	From  string `json:"from"`
	User  string `json:"user,omitempty"`
	Agent string `json:"agent,omitempty"`
}
