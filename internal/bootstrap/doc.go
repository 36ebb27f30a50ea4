// Package bootstrap makes a base image of a distribution's own signed packages: without a registry, and without debootstrap.
//
// # The life of an image
//
// Make asks the mirrors for the suite's release file and believes it only if a key of the keyring signed it; by its hashes
// it believes the lists of packages, and by theirs the packages. While packages are fetched, side by side, those that are
// there are unpacked, side by side too, into a writable layer that is mounted nowhere. What dpkg would have noted of them is
// written beside them: all packages are "unpacked" then. The rest is for the packages' own scripts: a command of the
// builder's kind, in a container without a network, runs the preinst scripts that do something and has the image's own dpkg
// configure all packages. What depends on the time or on this machine is removed, the layer is committed with no time later
// than the release file's, and named as an image.
//
// # Hostile packages
//
// Every path is resolved inside the layer's directory (sys.Root), device files are refused, and what a package claims
// to be large costs nothing before it is. Files that were fetched have no names: a process that is killed leaves none.
package bootstrap
