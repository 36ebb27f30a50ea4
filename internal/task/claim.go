package task

// Claim has the exit of the task id delivered here instead of by Events, where nothing of that task is told any more: for
// tasks that are no container's, such as a build's steps. It is called before Create; release ends it.
func (c *Client) Claim(id string) (exit <-chan Exit, release func()) {
	ch := make(chan Exit, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[id] = ch
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.claims[id] == ch {
			delete(c.claims, id)
		}
	}
}

// claimed hands an event to whoever has claimed its task.
func (c *Client) claimed(e Event) bool {
	c.mu.Lock()
	ch, ok := c.claims[e.ID]
	c.mu.Unlock()
	if !ok {
		return false
	}
	if e.Kind == EventExit && e.ExecID == "" && e.Exit != nil {
		select {
		case ch <- *e.Exit:
		default: // a second word about the same exit
		}
	}
	return true
}
