package runtime

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// idmapCache holds user namespaces that exist for their mappings alone, which idmapped mounts take.
type idmapCache struct {
	mu sync.Mutex // guards spaces
	// spaces by the text of their mappings.
	spaces map[string]*os.File
}

// maxIDMaps bounds the cache: each entry is a descriptor and a namespace.
const maxIDMaps = 64

// get returns a descriptor of a namespace with these mappings, which the caller closes.
func (c *idmapCache) get(self *plain, uid, gid []specs.LinuxIDMapping) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := mapText(uid) + "/" + mapText(gid)
	if f := c.spaces[key]; f != nil {
		return duplicate(f)
	}
	binary, err := self.binary()
	if err != nil {
		return -1, err
	}
	f, err := newUserNamespace(binary, uid, gid)
	if err != nil {
		return -1, fmt.Errorf("user namespace of an idmapped mount: %w", err)
	}
	if len(c.spaces) >= maxIDMaps {
		for k, old := range c.spaces {
			old.Close()
			delete(c.spaces, k)
			break
		}
	}
	if c.spaces == nil {
		c.spaces = map[string]*os.File{}
	}
	c.spaces[key] = f
	return duplicate(f)
}

func duplicate(f *os.File) (int, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	return fd, nil
}

func (c *idmapCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.spaces {
		f.Close()
	}
	c.spaces = nil
}

// newUserNamespace makes a user namespace by a child that waits until the namespace is held, and ends.
func newUserNamespace(self *os.File, uid, gid []specs.LinuxIDMapping) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	defer r.Close()
	const program = 3
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(program), []string{childName, childPause}, &syscall.ProcAttr{
		Env:   []string{"GOMAXPROCS=1"},
		Files: []uintptr{r.Fd(), r.Fd(), r.Fd(), self.Fd()},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, UidMappings: sysMaps(uid), GidMappings: sysMaps(gid), Pdeathsig: unix.SIGKILL,
		},
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	_ = unix.Kill(pid, unix.SIGKILL)
	for {
		if _, e := unix.Wait4(pid, nil, 0, nil); e != unix.EINTR {
			break
		}
	}
	return f, err
}
