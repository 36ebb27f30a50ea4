// Package archive turns tar streams into directories and directories into tar streams.
//
// Untar is written for hostile input: every path is resolved inside a sys.Root, so no name, symbolic link or hard link
// in a tar reaches a file outside of it; memory does not grow with what the tar claims, only with the number of its
// directories. With UntarOptions.Layer it unpacks an image's layer: OCI whiteouts become those of overlayfs.
//
// Tar is the way back: an image's layer from an overlay's upper directory, a container's files for docker cp, a whole root
// filesystem for docker export. The order is that of the sorted names, so equal trees give equal archives.
package archive
