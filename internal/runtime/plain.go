package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The arguments by which a program that links this package knows that it is the plain executor's child.
const (
	childName  = "kist-set-up"
	childPause = "pause"
)

// plain is the executor that re-executes this program, from a file that Seal has made safe or from a sealed copy in
// memory: what a container overwrites through /proc/self/exe is never a file of the host (CVE-2019-5736).
type plain struct {
	mu   sync.Mutex // guards self
	self *os.File
}

// binary returns this program's file.
func (p *plain) binary() (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.self != nil {
		return p.self, nil
	}
	dst, err := os.Open("/proc/self/exe")
	if err == nil && !sealed() {
		dst.Close()
		dst, err = sealedCopy()
	}
	if err != nil {
		return nil, err
	}
	p.self = dst
	return dst, nil
}

func (p *plain) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.self != nil {
		p.self.Close()
		p.self = nil
	}
}

// Descriptors of the re-executed child.
const (
	childMemory = 3
	childFirst  = 4 // the first of those that the program's slots name
)

// run re-executes this program, which maps the image and interprets its child section.
func (p *plain) run(im *image, given []slot) (pid int, err error) {
	self, err := p.binary()
	if err != nil {
		return 0, fmt.Errorf("plain executor: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), null.Fd(), im.file.Fd()}
	for _, s := range given {
		fd := uintptr(im.fd(s))
		if im.fd(s) < 0 {
			fd = null.Fd()
		}
		files = append(files, fd)
	}
	// The program is named by the number it has in the child: its own may have been given to another file by then.
	program := "/proc/self/fd/" + strconv.Itoa(len(files))
	files = append(files, self.Fd())
	pidfd := -1
	attr := &syscall.SysProcAttr{PidFD: &pidfd}
	p.namespaces(im, attr)
	for i, s := range given {
		im.setWord(s, uint64(childFirst+i))
	}
	for i := 0; i < len(im.prog.gaps); i += 2 {
		// The child has nothing but what it was given.
		im.setWord(im.prog.gaps[i], 1)
		im.setWord(im.prog.gaps[i+1], 0)
	}
	argv := []string{childName}
	for _, n := range []int{int(im.base), im.child, im.relocs, im.count} {
		argv = append(argv, strconv.Itoa(n))
	}
	pid, err = syscall.ForkExec(program, argv,
		&syscall.ProcAttr{Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: files, Sys: attr})
	if err != nil {
		return 0, fmt.Errorf("plain executor: %w", err)
	}
	binary.LittleEndian.PutUint32(im.mem[headTID:], uint32(pid))
	binary.LittleEndian.PutUint32(im.mem[headPIDFD:], uint32(pidfd))
	return pid, nil
}

// namespaces turns the flags of the program into those of Go's own fork.
func (p *plain) namespaces(im *image, a *syscall.SysProcAttr) {
	const all = unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
		unix.CLONE_NEWUSER | unix.CLONE_NEWCGROUP
	a.Cloneflags = uintptr(im.prog.flags & all)
	if im.prog.flags&unix.CLONE_INTO_CGROUP != 0 {
		a.UseCgroupFD, a.CgroupFD = true, im.fd(im.prog.cgroup)
	}
	if im.prog.flags&unix.CLONE_NEWUSER == 0 {
		return
	}
	// An unmapped user would lose its capabilities by the execve in between: the maps are written before.
	a.UidMappings, a.GidMappings = sysMaps(im.prog.uidMaps), sysMaps(im.prog.gidMaps)
	a.GidMappingsEnableSetgroups = true
	a.Credential = &syscall.Credential{NoSetGroups: true}
}

func sysMaps(maps []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, 0, len(maps))
	for _, m := range maps {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return out
}

// MaybeChild turns this process into a container's process, if that is what it was started for. Every program that uses
// this package calls it before all else, in main and in TestMain. Otherwise it returns at once.
func MaybeChild() {
	if len(os.Args) == 2 && os.Args[0] == childName && os.Args[1] == childPause {
		// Only the namespace is wanted: it is held by the time this is killed.
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	if len(os.Args) != 5 || os.Args[0] != childName {
		return
	}
	// The process's identity is that of this thread, and it is this thread that executes the container's program.
	goruntime.LockOSThread()
	debug.SetGCPercent(-1)
	runChild(os.Args[1:])
	os.Exit(1)
}

func runChild(args []string) {
	var n [4]int
	for i := range n {
		v, err := strconv.Atoi(args[i])
		if err != nil {
			return
		}
		n[i] = v
	}
	base, child, relocs, count := uint64(n[0]), n[1], n[2], n[3]
	var st unix.Stat_t
	if unix.Fstat(childMemory, &st) != nil {
		return
	}
	mem, err := unix.Mmap(childMemory, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return
	}
	unix.CloseOnExec(childMemory)
	if relocs+4*count > len(mem) {
		return
	}
	le := binary.LittleEndian
	moved := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) - base
	for i := range count {
		at := le.Uint32(mem[relocs+4*i:])
		le.PutUint64(mem[at:], le.Uint64(mem[at:])+moved)
	}
	full := unix.Sigset_t{}
	for i := range full.Val {
		full.Val[i] = ^full.Val[i]
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &full, nil)
	// Other threads of this program share the root and working directory, which forbids to enter a mount namespace.
	if unix.Unshare(unix.CLONE_FS) != nil {
		return
	}
	interpret(mem, child, unix.RawSyscall6)
}
