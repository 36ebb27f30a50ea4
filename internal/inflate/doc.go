// Package inflate reads gzip streams fast: unpacking an image's layers is mostly this.
//
// What makes it fast: a 64-bit buffer of input bits that is refilled without a branch; one table lookup for most symbols,
// and for two literals at once where their codes are short; a second table only for rare, long codes; and matches copied
// eight bytes at a time, past their end where there is room. The careful way, symbol by symbol and bit by bit, is taken
// for the last bytes of the input alone.
package inflate
