// Package logfile writes containers' output to files and reads it back: docker's json-file format, and kist's "local"
// format, both rotated by default. Writing and reading happen in different processes, which share nothing but the files.
//
// # Rotation
//
// The writer renames PATH.1 to PATH.2 and so on, then PATH to PATH.1, then makes a new PATH: files only ever move to
// higher numbers. A reader opens them from the lowest number to the highest and knows them by inode, so a file that
// moves meanwhile is met twice (and left out the second time) but never missed; afterwards it checks that every name
// still leads to the same file, and starts over if not. A compressed file names the inode it was made from in its gzip
// header, so that a follower finds its place again.
package logfile
