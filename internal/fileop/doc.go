// Package fileop runs the file operations of a build: copies, new directories, files and links, removals, merges and
// differences of trees, with the semantics of BuildKit's. Each result is a stack of layers.
//
// # Where files go
//
// An operation on top of layers writes the new layer's directory itself; overlayfs is asked only what is there already, by
// a mount of the layers below for looking. What overlayfs would leave in an upper directory is made by hand: directories
// that exist below are made anew with the same attributes, what is removed below is marked by a whiteout, and a directory
// that takes the place of something removed is opaque. Files are then made at the speed of the file system, by all
// processors.
//
// # Trust
//
// Nothing that a path, a link or a tar says leads out of the tree it belongs to: paths are walked component by component,
// each opened in the directory before it and never followed if it is a link; what links mean is worked out here.
package fileop
