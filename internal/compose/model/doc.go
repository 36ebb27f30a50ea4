// Package model reads Compose files to a project: which files, which name, which services, what each of them is called once it
// is a container, and the hash that tells whether a container is still what its service says.
//
// Names, labels and hashes are those of Docker's own Compose, so that either program takes over what the other one has started.
package model
