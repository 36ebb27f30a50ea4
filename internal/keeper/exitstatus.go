package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoStatus says that nobody can tell how a process ended.
var errNoStatus = errors.New("exit status is lost")

// reap waits for an ended child and returns its wait status. unix.ECHILD says that it is not a child.
func reap(pidfd int) (unix.WaitStatus, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED|unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if status, ok := waitStatus(&info); ok {
			return status, nil
		}
		time.Sleep(time.Millisecond) // the pidfd is ready before the last thread is gone
	}
}

// waitStatus turns what waitid says into what wait4 would.
func waitStatus(info *unix.Siginfo) (unix.WaitStatus, bool) {
	// The union behind the header: pid, uid, status.
	fields := (*[3]int32)(unsafe.Add(unsafe.Pointer(info), 16))
	status := uint32(fields[2])
	switch info.Code {
	case cldExited:
		return unix.WaitStatus(status & 0xff << 8), true
	case cldKilled:
		return unix.WaitStatus(status & 0x7f), true
	case cldDumped:
		return unix.WaitStatus(status&0x7f | 0x80), true
	}
	return 0, false
}

const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// foreignStatus tells how a process ended that is not a child: from the pidfd after its parent has reaped it (Linux
// 6.15), or from the zombie before.
func foreignStatus(pidfd, pid int) (unix.WaitStatus, error) {
	deadline := time.Now().Add(foreignPatience)
	for {
		if s, err := infoStatus(pidfd); err == nil {
			return s, nil
		}
		if s, err := zombieStatus(pidfd, pid); err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			return 0, errNoStatus
		}
		time.Sleep(2 * time.Millisecond) // reaped in between, or its other threads are still ending
	}
}

const foreignPatience = 200 * time.Millisecond

func infoStatus(pidfd int) (unix.WaitStatus, error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil {
		return 0, err
	}
	if info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, errNoStatus
	}
	return unix.WaitStatus(uint32(info.Exit_code)), nil
}

// zombieStatus reads the last field of /proc/PID/stat, and makes sure that it was this process's.
func zombieStatus(pidfd, pid int) (unix.WaitStatus, error) {
	fields, err := procStat(pid)
	if err != nil {
		return 0, err
	}
	const state, exitCode = 0, 49 // counted behind the name
	if len(fields) <= exitCode || fields[state][0] != 'Z' {
		return 0, errNoStatus
	}
	code, err := strconv.ParseInt(string(fields[exitCode]), 10, 64)
	if err != nil {
		return 0, err
	}
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return 0, err // it was reaped meanwhile: the number may be another's
	}
	return unix.WaitStatus(uint32(code)), nil
}

// procStat returns the fields of /proc/PID/stat that follow the name.
func procStat(pid int) ([][]byte, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) == 0 {
		return nil, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return fields, nil
}

// startTime is when a process began, in the kernel's ticks: with the pid it names one process.
func startTime(pid int) (uint64, error) {
	fields, err := procStat(pid)
	if err != nil {
		return 0, err
	}
	const start = 19
	if len(fields) <= start {
		return 0, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	return strconv.ParseUint(string(fields[start]), 10, 64)
}

// signalPID is the process that waitid speaks of, 0 if none.
func signalPID(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}
