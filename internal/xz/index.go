package xz

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"hash/fnv"
	"io"
)

// summed reads bytes that a checksum covers.
type summed struct {
	src *counted
	crc uint32
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.src.ReadByte()
	if err == nil {
		s.crc = crc32.Update(s.crc, crc32.IEEETable, []byte{b})
	}
	return b, err
}

// number reads an integer of variable length: seven bits a byte, at most 63 in all, in the shortest form.
func number(r io.ByteReader) (uint64, error) {
	var v uint64
	for shift := 0; shift < 63; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if b == 0 && shift > 0 {
			return 0, ErrCorrupt
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, ErrCorrupt
}

// closeStream compares the index with the blocks, of which the first byte is read already, and reads the footer.
func (z *Reader) closeStream() error {
	began := z.src.n - 1
	s := &summed{src: &z.src, crc: crc32.ChecksumIEEE([]byte{0})}
	n, err := number(s)
	if err != nil {
		return err
	}
	if n != z.records.n {
		return ErrCorrupt
	}
	told := records{hash: fnv.New128a()}
	for range n {
		packed, err := number(s)
		if err != nil {
			return err
		}
		size, err := number(s)
		if err != nil {
			return err
		}
		told.add(int64(packed), int64(size)) //nolint:gosec // of 63 bits
	}
	if !bytes.Equal(told.hash.Sum(nil), z.records.hash.Sum(nil)) {
		return ErrCorrupt
	}
	for (z.src.n-began)&3 != 0 {
		if b, err := s.ReadByte(); err != nil || b != 0 {
			return either(err, ErrCorrupt)
		}
	}
	var sum [4]byte
	if _, err := io.ReadFull(&z.src, sum[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(sum[:]) != s.crc {
		return ErrChecksum
	}
	return z.footer(z.src.n - began)
}

func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (z *Reader) footer(index int64) error {
	var f [12]byte
	if _, err := io.ReadFull(&z.src, f[:]); err != nil {
		return err
	}
	if !bytes.Equal(f[10:], footMagic) {
		return ErrCorrupt
	}
	if crc32.ChecksumIEEE(f[4:10]) != binary.LittleEndian.Uint32(f[:]) {
		return ErrChecksum
	}
	if (int64(binary.LittleEndian.Uint32(f[4:]))+1)*4 != index || f[8] != 0 || f[9] != z.check.kind {
		return ErrCorrupt
	}
	z.inStream = false
	return nil
}
