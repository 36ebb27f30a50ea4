package sys

import (
	"os"
	"strings"
	"sync"
)

// BootID tells this boot of the machine from others. It is empty where the kernel does not tell.
var BootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
})
