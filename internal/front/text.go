package front

// What follows is in strconv and strings, too. Those bring package unicode along, whose tables take longer to set up than all
// that this package does before it waits for the daemon.

func itoa(n int) []byte {
	var b [20]byte
	i := len(b)
	for ok := true; ok; ok = n > 0 {
		i--
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b[i:]
}

// atoi reads an exit code; what is none is a failure.
func atoi(s string) (n int) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || n > 255 {
			return 1
		}
		n = 10*n + int(s[i]-'0')
	}
	return n
}

// cut returns what is before and after the first c.
func cut(s string, c byte) (before, after string) {
	for i := range len(s) {
		if s[i] == c {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func contains(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		if s[i:i+len(part)] == part {
			return true
		}
	}
	return false
}

// trim removes white space at both ends.
func trim(s string) string {
	space := func(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
	for s != "" && space(s[0]) {
		s = s[1:]
	}
	for s != "" && space(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
