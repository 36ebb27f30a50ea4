package keeper

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// trimAfter is how long requests must have ceased before memory is given back.
const trimAfter = 2 * time.Second

// How much garbage may gather, in percent of what is in use: little while nobody asks for anything and every container
// pays its share of memory, more while collecting it would make the asker wait.
const (
	garbageIdle = 30
	garbageBusy = 400
)

// trimSoon gives memory back to the system once requests have ceased for a while.
func (k *keeper) trimSoon() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.shutting:
		return
	case k.trim == nil:
		k.trim = time.AfterFunc(trimAfter, func() { k.recent.forget(""); trim() })
	case k.trim.Reset(trimAfter): // It was awake.
		return
	}
	debug.SetGCPercent(garbageBusy)
}

// trim gives back the heap's free pages, and lets go of the program's own: the page cache still has them, and what is
// needed again comes back with a minor fault for each 64 kB. An idle keeper needs hardly any.
func trim() {
	debug.SetGCPercent(garbageIdle)
	debug.FreeOSMemory()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range pristine(smaps) {
		// A failure costs only memory.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.size, unix.MADV_DONTNEED)
	}
}

// mapping is a range of the address space.
type mapping struct{ start, size uintptr }

// pristine reads /proc/PID/smaps for private, read-only mappings of files of which no page was ever written: text and
// constants. (A position-independent program's constants were, by its relocation, and would be lost.)
func pristine(smaps []byte) (found []mapping) {
	var m mapping
	var candidate bool
	for line := range bytes.Lines(smaps) {
		f := bytes.Fields(line)
		switch {
		case len(f) == 0:
		case !bytes.HasSuffix(f[0], []byte{':'}):
			m, candidate = readOnlyFile(f)
		case candidate && string(f[0]) == "Anonymous:" && len(f) > 1 && string(f[1]) == "0":
			found = append(found, m)
		}
	}
	return found
}

// readOnlyFile reads the first line of a mapping.
func readOnlyFile(f [][]byte) (m mapping, ok bool) {
	if len(f) < 6 || f[5][0] != '/' || len(f[1]) != 4 || f[1][0] != 'r' || f[1][1] != '-' || f[1][3] != 'p' {
		return m, false
	}
	from, to, found := bytes.Cut(f[0], []byte{'-'})
	start, err := strconv.ParseUint(string(from), 16, 64)
	end, err2 := strconv.ParseUint(string(to), 16, 64)
	if !found || err != nil || err2 != nil || end <= start {
		return m, false
	}
	return mapping{uintptr(start), uintptr(end - start)}, true
}
