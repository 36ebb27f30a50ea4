// Package treesum tells what a tree of files holds by one digest: of names, kinds, modes, owners, contents, targets of
// links, extended attributes and device numbers, but of no times. Two trees with the same digest give the same files when
// they are copied, so a build step that copies them need not run again.
//
// # Scanning
//
// Scan reads a directory's tree, without what a Filter leaves out, on all processors, with few system calls for each
// file. A file's content is read only if the stat cache does not know it: a file on disk, one for each key, that tells
// digests by device, inode, size and times. As git does with its index, a file that was changed so shortly before the
// scan that a further change might not show in its times is not remembered.
//
// # Selecting
//
// Tree.Select finds what a copy would take, by the rules of BuildKit's file operations: wildcards, links followed inside
// the tree, patterns that include and exclude. Tree.Digest is the digest of that.
//
// Trees are hostile: links lead in circles and out of the tree, names are as long as they may be, files are FIFOs and
// devices, and all of it may change while it is read.
package treesum
