package xz

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

// check is a stream's checksum of each block.
type check struct {
	kind byte
	size int
	sum  hash.Hash // nil if there is none
}

var ecma = crc64.MakeTable(crc64.ECMA)

func newCheck(kind byte) (check, error) {
	switch kind {
	case 0:
		return check{}, nil
	case 1:
		return check{kind, 4, crc32.NewIEEE()}, nil
	case 4:
		return check{kind, 8, crc64.New(ecma)}, nil
	case 10:
		return check{kind, 32, sha256.New()}, nil
	}
	return check{}, ErrUnsupported
}

func (c *check) reset() {
	if c.sum != nil {
		c.sum.Reset()
	}
}

func (c *check) write(p []byte) {
	if c.sum != nil {
		c.sum.Write(p)
	}
}

// verify reads the checksum and compares.
func (c *check) verify(r io.Reader) error {
	if c.sum == nil {
		return nil
	}
	told := make([]byte, c.size)
	if _, err := io.ReadFull(r, told); err != nil {
		return err
	}
	got := c.sum.Sum(nil)
	if c.kind != 10 { // checksums stand with their lowest byte first, Go's with the highest
		for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
			got[i], got[j] = got[j], got[i]
		}
	}
	if !bytes.Equal(told, got) {
		return ErrChecksum
	}
	return nil
}
