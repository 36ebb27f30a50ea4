// Package registry is a client of OCI distribution registries.
//
// # The life of a session
//
// Client.Repository begins a session with one repository: it works out where the registry's mirrors and the registry itself
// are, with which certificates (read now, so a new CA file needs no restart) and with which credentials. Reads ask the
// mirrors first and the registry last; writes go to the registry. What a network or a busy server breaks is tried again,
// and a download goes on from the byte at which it broke. Close ends the session's connections.
//
// Failures that a person can mend are faults which say what is wrong: no such host, refused connection, a certificate of an
// unknown issuer, a login that is needed, a repository or a tag that is not there.
package registry
