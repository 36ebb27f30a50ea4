// Package chunk cuts content into pieces at places that the content itself decides, so that equal stretches of two files give
// equal pieces, wherever they lie. It is pure: it reads and hashes, and knows no store.
//
// A tar is described by a recipe: what is between files' contents word for word, and files' contents as the sums of their
// pieces. Whoever has the pieces, in whatever files, can write the tar again, byte for byte.
//
//	tar:     header | content of a .......... | header | content of b ... | end
//	recipe:  Literal  Piece Piece Piece         Literal  Piece              Literal
//
// Each file begins a new piece, so that a header in which a time has changed spoils nothing behind it.
package chunk
