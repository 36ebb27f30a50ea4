package sys

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// Umask is the process's file mode creation mask as it was at the first call. Asking umask(2) would change it for a moment, under
// the feet of the others; /proc does not. When in doubt it is every bit, which makes whoever asks set modes by chmod.
var Umask = sync.OnceValue(func() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		var mask uint32
		if n, _ := fmt.Sscanf(line, "Umask:\t%o", &mask); n == 1 {
			return mask
		}
	}
	return 0o777
})
