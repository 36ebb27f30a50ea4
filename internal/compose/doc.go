// Package compose is `kist compose`: projects of Compose files, made so in a daemon that speaks Docker's API, kist's own or any
// other.
//
// A command reads the project (model), looks up what there is of it by labels, and does what is missing: what a container is made
// of is hashed, and one whose hash is the same is left alone. A service's container starts when what it depends on is as it wants
// it; services that do not wait for each other start at the same time. The labels are those of Docker's own Compose, so that
// either program goes on where the other one stopped.
//
// Requests are made by package convert, and shown by package screen. Where one of kist's own commands does the same for a
// container (exec, attach, cp), that command is carried out.
package compose
