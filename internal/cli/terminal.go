package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// terminalFD returns the descriptor of a terminal.
func terminalFD(v any) (int, bool) {
	f, ok := v.(*os.File)
	if !ok {
		return 0, false
	}
	fd := int(f.Fd())
	return fd, term.IsTerminal(fd)
}

// terminalSize returns the rows and columns of the terminal that w writes to.
func terminalSize(w io.Writer) (rows, cols int, ok bool) {
	fd, ok := terminalFD(w)
	if !ok {
		return 0, 0, false
	}
	cols, rows, err := term.GetSize(fd)
	return rows, cols, err == nil && cols > 0
}

// lively tells that w is a terminal on which lines may be drawn over.
func (a *app) lively(w io.Writer) bool {
	_, ok := terminalFD(w)
	return ok && a.getenv("TERM") != "dumb"
}

// coloured says that standard error is where colours are wanted.
func (a *app) coloured() bool { return a.getenv("NO_COLOR") == "" && a.lively(a.err) }

// paint colours text.
func paint(s, code string, coloured bool) string {
	if !coloured {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// rawTerminal switches the terminal to pass every key on; the returned function gives it back.
func rawTerminal(v any) (restore func(), err error) {
	fd, ok := terminalFD(v)
	if !ok {
		return func() {}, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() {
		// The terminal may have gone away.
		_ = term.Restore(fd, state)
	}, nil
}
