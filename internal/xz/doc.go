// Package xz reads xz streams fast: what Debian's packages, kernels and many sources are packed with.
//
// What makes it fast: LZMA2 comes in chunks of at most 64 KiB, so a chunk is taken in whole and decoded without ever asking
// whether there is more input; the window is a plain slice that slides, so that a match is copied without a thought about
// its edges; bits of literals, which nobody can guess, are decoded without a branch; and all tables are arrays whose
// indices the compiler can prove.
//
// Input is hostile: the window grows with what was really decoded, not with what a header claims, and a stream that wants
// more than MaxDictionary is refused. All checksums are verified, those of the index too.
package xz

import "errors"

// MaxDictionary is the largest dictionary that is accepted: four times that of `xz -9`.
const MaxDictionary = 256 << 20

// Errors of a stream that is no xz stream, or a damaged one, or one that uses what is not supported. A stream that ends
// early is io.ErrUnexpectedEOF.
var (
	ErrHeader      = errors.New("xz: invalid header")
	ErrCorrupt     = errors.New("xz: corrupt data")
	ErrChecksum    = errors.New("xz: invalid checksum")
	ErrUnsupported = errors.New("xz: unsupported filter or check")
	ErrDictionary  = errors.New("xz: the dictionary is too large")
)
