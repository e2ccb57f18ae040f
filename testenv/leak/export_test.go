package leak

import "time"

// Alone returns a [Check] that counts no test beside those it was called for, and
// does not wait long for what stays, until undo is called.
func Alone() (check func(TB), undo func()) {
	was := patience
	patience = 50 * time.Millisecond
	return new(group).check, func() { patience = was }
}

// NetPipe is [netPipe].
const NetPipe = netPipe
