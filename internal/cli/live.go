package cli

import (
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// screen is a table that is drawn over and over, in place, on a terminal. What it drew last stays when it ends.
type screen struct {
	a       *app
	drawn   int // lines that are there
	keys    chan byte
	restore func()
	once    sync.Once
}

// Control sequences of terminals.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
)

// openScreen takes the terminal over: keys come one by one and are not shown.
func (a *app) openScreen() (*screen, error) {
	s := &screen{a: a, keys: make(chan byte, 16), restore: func() {}}
	if _, ok := terminalFD(a.in); ok {
		restore, err := rawTerminal(a.in)
		if err != nil {
			return nil, err
		}
		s.restore = restore
		go s.readKeys()
	}
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	go func() {
		sig := <-ch
		s.close()
		if n, ok := sig.(syscall.Signal); ok {
			os.Exit(128 + int(n))
		}
	}()
	if _, err := io.WriteString(a.out, hideCursor); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *screen) readKeys() {
	var b [1]byte
	for {
		n, err := s.a.in.Read(b[:])
		if err != nil {
			return
		}
		if n == 1 {
			s.keys <- b[0]
		}
	}
}

// close gives the terminal back.
func (s *screen) close() {
	s.once.Do(func() {
		// The terminal may have gone away.
		_, _ = io.WriteString(s.a.out, showCursor)
		s.restore()
	})
}

// size is how many lines and columns there are.
func (s *screen) size() (rows, cols int) {
	rows, cols, ok := terminalSize(s.a.out)
	if !ok {
		return 24, 80
	}
	return rows, cols
}

// draw replaces what is there. Lines that do not fit are cut; of too many, the last that does says how many are missing.
func (s *screen) draw(lines []string) error {
	rows, cols := s.size()
	if most := max(rows-1, 2); len(lines) > most {
		missing := len(lines) - most + 1
		lines = append(lines[:most-1:most-1], "… "+counted(missing, "more line"))
	}
	var b strings.Builder
	if s.drawn > 0 {
		b.WriteString("\r\x1b[" + strconv.Itoa(s.drawn) + "A")
	}
	for _, l := range lines {
		b.WriteString(cutLine(l, cols) + clearRight + "\r\n")
	}
	b.WriteString(clearBelow)
	s.drawn = len(lines)
	_, err := io.WriteString(s.a.out, b.String())
	return err
}

// cutLine cuts a line to a width, of which colours take nothing.
func cutLine(s string, cols int) string {
	if utf8.RuneCountInString(s) <= cols {
		return s
	}
	width, inside, cut := 0, false, false
	return strings.Map(func(r rune) rune {
		switch {
		case r == 0x1b:
			inside = true
		case inside:
			inside = r < 'A' || r == '['
		case cut || width == cols:
			cut = true
			return -1
		default:
			width++
		}
		return r
	}, s)
}

// rest waits, and returns early with the key that is pressed meanwhile; 0 for none.
func (s *screen) rest(d time.Duration) byte {
	select {
	case k := <-s.keys:
		return k
	case <-time.After(d):
		return 0
	}
}

// leaves says that a key ends the table: q, ctrl-c or ctrl-d.
func leaves(key byte) bool { return key == 'q' || key == 'Q' || key == 3 || key == 4 }

// bold is text that stands out, where colours are wanted.
func (a *app) bold(s string) string {
	return paint(s, "1", a.getenv("NO_COLOR") == "" && a.lively(a.out))
}

// faint is the opposite.
func (a *app) faint(s string) string {
	return paint(s, "2", a.getenv("NO_COLOR") == "" && a.lively(a.out))
}
