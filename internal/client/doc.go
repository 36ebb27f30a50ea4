// Package client speaks Docker's Engine API to a daemon: kist's own, or any other that serves it.
//
// It is HTTP/1.1 written by hand, because a command that lives for a few milliseconds cannot afford net/http: one
// request after the other on a kept connection, bodies with a length, in chunks or until the end, and the switch of a
// connection into a raw stream. Nothing is asked before it is needed: the newest API version is used right away, and only
// a daemon that says it is older is spoken to in its own.
//
// Where the daemon is comes from FindEndpoint; if it is kist's own and does not run, the first request starts it.
package client
