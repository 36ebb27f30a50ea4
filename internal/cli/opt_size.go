package cli

import (
	"fmt"
	"math/big"
	"time"

	"github.com/docker/go-units"
)

// sizeFlag is a number of bytes, as in 64m.
type sizeFlag struct {
	n         int64
	unlimited bool // -1 is allowed
}

func (f *sizeFlag) Set(s string) error {
	if s == "-1" && f.unlimited {
		f.n = -1
		return nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil {
		return err
	}
	f.n = n
	return nil
}

func (f *sizeFlag) String() string {
	if f.n == 0 {
		return "" // pflag shows no default then
	}
	return units.BytesSize(float64(f.n))
}

func (f *sizeFlag) Type() string { return "bytes" }

// cpusFlag is a number of processors in billionths.
type cpusFlag int64

func (f *cpusFlag) Set(s string) error {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return fmt.Errorf("failed to parse %v as a rational number", s)
	}
	r.Mul(r, big.NewRat(1e9, 1))
	if !r.IsInt() {
		return fmt.Errorf("value is too precise")
	}
	if !r.Num().IsInt64() {
		return fmt.Errorf("value is too large")
	}
	*f = cpusFlag(r.Num().Int64())
	return nil
}

func (f *cpusFlag) String() string {
	if *f == 0 {
		return ""
	}
	return big.NewRat(int64(*f), 1e9).FloatString(3)
}

func (f *cpusFlag) Type() string { return "decimal" }

// ulimitFlag collects name=soft[:hard].
type ulimitFlag struct {
	values map[string]*units.Ulimit
}

func (f *ulimitFlag) Set(s string) error {
	u, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	if f.values == nil {
		f.values = map[string]*units.Ulimit{}
	}
	f.values[u.Name] = u
	return nil
}

func (f *ulimitFlag) String() string { return "" }
func (f *ulimitFlag) Type() string   { return "ulimit" }

func (f *ulimitFlag) list() []*units.Ulimit {
	var out []*units.Ulimit
	for _, k := range sortedKeys(f.values) {
		out = append(out, f.values[k])
	}
	return out
}

// positive checks a duration of a health flag.
func positive(flag string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("--%s cannot be negative", flag)
	}
	return nil
}
