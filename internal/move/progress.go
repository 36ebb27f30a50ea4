package move

import (
	"time"

	"github.com/kistdev/kist/internal/movemsg"
)

// tick is how often a person hears of progress.
const tick = 100 * time.Millisecond

// meter counts the bytes of one item.
type meter struct {
	report func(movemsg.Line)
	line   movemsg.Line
	last   time.Time
}

func (s *sending) meter(item, doing string, total int64) *meter {
	m := &meter{report: s.report, line: movemsg.Line{Item: item, Doing: doing, Total: total}}
	m.tell(time.Now())
	return m
}

func (m *meter) add(n int) {
	m.line.Done += int64(n)
	// The end is told whenever it comes.
	if now := time.Now(); now.Sub(m.last) >= tick || m.line.Done == m.line.Total {
		m.tell(now)
	}
}

func (m *meter) tell(now time.Time) {
	m.last = now
	m.report(m.line)
}
