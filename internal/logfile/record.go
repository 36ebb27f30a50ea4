package logfile

import "time"

// Record is one record of a log. Its Line is valid only until the function that got it returns.
type Record struct {
	Stream string
	Time   time.Time
	Line   []byte // with its newline, unless it is a part of a longer line or the last of a stream
	Attrs  map[string]string
}

// partSize is where docker cuts a line that does not end.
const partSize = 16 << 10

// maxRecord bounds one encoded record: a part of 16 KiB, six bytes for each at worst, and generous attributes. What
// claims to be longer is damage.
const maxRecord = 1 << 20

// format is how records look in a file.
type format interface {
	// header is what a new file begins with.
	header(attrs map[string]string) []byte
	// append adds an encoded record to b. line has its newline still, if it has one.
	append(b []byte, stream string, line []byte, at time.Time) []byte
	// decode reads one record from the head of b and says how many bytes it took. n = 0 asks for more bytes; a false ok
	// says that these n bytes are not a record for the reader: a header, or damage.
	decode(b []byte) (r Record, n int, ok bool)
	// sound is the length of the longest head of the file's last bytes that ends with a whole record, given those
	// bytes and whether they are the whole file. A negative length asks for more bytes.
	sound(tail []byte, whole bool) int
	// last finds where the record that ends at the end of b begins, or -1 when b does not hold all of it.
	last(b []byte) int
}

func newFormat(driver string, attrs map[string]string) format {
	if driver == driverLocal {
		return &localFormat{}
	}
	return newJSONFormat(attrs)
}
