// Package sys is the kernel's interfaces that kist needs beyond golang.org/x/sys/unix, typed: mounts, namespaces,
// pidfds, safe opening of hostile paths.
package sys
