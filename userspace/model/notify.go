package model

import "time"

// A Notify says whom to tell of changes: a command that is run, or a URL that is
// posted to.
type Notify struct {
	Command []string
	URL     string
	Headers []Header // of posts
	Timeout time.Duration
	Rate    int // in a minute; ten may come at once
}
