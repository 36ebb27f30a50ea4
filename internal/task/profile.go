package task

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// profileKey names a seccomp profile by its content. Profiles are large and nearly all containers share one, so they
// cross the socket once.
func profileKey(p *specs.LinuxSeccomp) string {
	d := digester{h: sha256.New()}
	d.text(string(p.DefaultAction))
	d.optional(p.DefaultErrnoRet)
	d.number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		d.text(string(a))
	}
	d.number(uint64(len(p.Flags)))
	for _, f := range p.Flags {
		d.text(string(f))
	}
	d.text(p.ListenerPath)
	d.text(p.ListenerMetadata)
	for i := range p.Syscalls {
		d.syscall(&p.Syscalls[i])
	}
	d.flush()
	return hex.EncodeToString(d.h.Sum(nil)[:16])
}

type digester struct {
	h   hash.Hash
	buf []byte
}

func (d *digester) flush() {
	d.h.Write(d.buf)
	d.buf = d.buf[:0]
}

func (d *digester) number(n uint64) {
	d.buf = binary.AppendUvarint(d.buf, n)
	if len(d.buf) > 4<<10 {
		d.flush()
	}
}

func (d *digester) text(s string) {
	d.number(uint64(len(s)))
	d.buf = append(d.buf, s...)
}

func (d *digester) optional(n *uint) {
	if n == nil {
		d.number(0)
		return
	}
	d.number(uint64(*n) + 1)
}

func (d *digester) syscall(s *specs.LinuxSyscall) {
	d.number(uint64(len(s.Names)))
	for _, n := range s.Names {
		d.text(n)
	}
	d.text(string(s.Action))
	d.optional(s.ErrnoRet)
	d.number(uint64(len(s.Args)))
	for _, a := range s.Args {
		d.number(uint64(a.Index))
		d.number(a.Value)
		d.number(a.ValueTwo)
		d.text(string(a.Op))
	}
}
