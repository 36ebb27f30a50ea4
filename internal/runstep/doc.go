// Package runstep runs a build's command (an ExecOp of BuildKit's low-level language) as a container and makes a layer of
// what it has changed.
//
// # The life of a step
//
// Run notes the step in a directory of its own below the exec root. Side by side it takes a network namespace from the
// pool, stacks the root filesystem, puts up the mounts and connects to the output. The keeper runs the command; its output
// comes by a socket while it runs, and is never written anywhere. Then the places that had only been made to mount
// something on are removed from the writable layer, and the layer is committed. The step's directory goes last: what Open
// finds of an earlier process is a step that was cut off, of which task, network, root filesystems and mounts are taken
// away.
//
// # Mounts
//
// Trees of other stages are overlays of their own, mounted nowhere but on a descriptor, by which the keeper finds them. A
// directory of the client is bound in place; what .dockerignore hides is covered by whiteouts in an overlay on top of it, and
// what is written goes into a layer that is thrown away. Secrets live in a file system in memory that nothing but the step
// sees. Caches are directories that survive (Caches).
package runstep
