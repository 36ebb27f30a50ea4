// Package cdi gives containers devices by the Container Device Interface: a vendor writes specification files, JSON or YAML,
// that say what a container needs of the host for each device by name (vendor.com/class=name), and an engine makes those
// edits to the container's OCI specification.
//
// Files are read when a device is asked for: what a vendor's tool writes is in force without a restart, and nothing is
// watched. A file that is wrong is reported and left out; it never keeps others from being used.
package cdi
