package keeper

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runtime"
)

// openPipes makes a process's standard streams: theirs for it, ours for the keeper.
func openPipes(stdin bool) (theirs runtime.Stdio, ours streams, err error) {
	ours = noStreams
	defer func() {
		if err != nil {
			ours.close()
			closeAll(theirs.Stdin, theirs.Stdout, theirs.Stderr)
		}
	}()
	if stdin {
		if theirs.Stdin, ours.stdin, err = pipe(true); err != nil {
			return theirs, ours, err
		}
	} else if theirs.Stdin, err = os.OpenFile(os.DevNull, os.O_RDONLY, 0); err != nil {
		return theirs, ours, err
	}
	if theirs.Stdout, ours.stdout, err = pipe(false); err != nil {
		return theirs, ours, err
	}
	theirs.Stderr, ours.stderr, err = pipe(false)
	return theirs, ours, err
}

// pipe makes one whose end for the process blocks and ours does not. input says that the process reads from it.
func pipe(input bool) (*os.File, int, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("pipe: %w", err)
	}
	theirs, ours := fds[1], fds[0]
	if input {
		theirs, ours = fds[0], fds[1]
	}
	if err := unix.SetNonblock(ours, true); err != nil {
		unix.Close(theirs)
		unix.Close(ours)
		return nil, -1, fmt.Errorf("pipe: %w", err)
	}
	return os.NewFile(uintptr(theirs), "pipe"), ours, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
