package task

import "sync"

// eventQueue holds events until their reader takes them. It has no limit: events are small, and a reader that is slow
// must not stop the connection.
type eventQueue struct {
	mu    sync.Mutex // guards items
	items []Event
	more  chan struct{} // holds one notice at most
}

func newEventQueue() *eventQueue { return &eventQueue{more: make(chan struct{}, 1)} }

func (q *eventQueue) push(e Event) {
	q.mu.Lock()
	q.items = append(q.items, e)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// pump moves events to out until quit.
func (q *eventQueue) pump(out chan<- Event, quit <-chan struct{}) {
	for {
		q.mu.Lock()
		batch := q.items
		q.items = nil
		q.mu.Unlock()
		for _, e := range batch {
			select {
			case out <- e:
			case <-quit:
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-q.more:
		case <-quit:
			return
		}
	}
}
