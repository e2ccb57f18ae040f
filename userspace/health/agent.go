package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Word is what a backend's agent has said of it. What one answer does not
// mention stays as it was said before.
type Word struct {
	Down   bool // it is not to serve
	Maint  bool // the same, until the agent says ready
	Drain  bool // it gets nothing new, until the agent says ready
	Weight int  // percent of its weight, 0 to 100
}

// free is the word on a backend whose agent has said nothing.
var free = Word{Weight: 100}

// Out reports whether the backend is not to serve.
func (w Word) Out() bool { return w.Down || w.Maint }

// Share returns the percentage of its weight that the backend is to have.
func (w Word) Share() int {
	if w.Drain {
		return 0
	}
	return w.Weight
}

// hear returns w after an answer of the agent: words as those of HAProxy's
// agent-check. ok is false if none of them is known.
func (w Word) hear(line string) (after Word, ok bool) {
	line, _, _ = strings.Cut(line, "#") // why, for people
	for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r <= ' ' || r == ',' }) {
		known := true
		switch percent, isPercent := strings.CutSuffix(word, "%"); {
		case isPercent:
			n, err := strconv.Atoi(percent)
			if known = err == nil && n >= 0; known {
				w.Weight = min(n, 100)
			}
		case word == "up":
			w.Down = false
		case word == "down", word == "fail", word == "failed", word == "stopped":
			w.Down = true
		case word == "maint":
			w.Maint = true
		case word == "drain":
			w.Drain = true
		case word == "ready":
			w.Maint, w.Drain = false, false
		default:
			known = false
		}
		ok = ok || known
	}
	return w, ok
}

// maxWord is how long an agent's answer may be.
const maxWord = 1 << 10

// askAgent asks a backend's agent once, and returns the first line that it says.
func askAgent(ctx context.Context, t Target) (string, error) {
	c := &t.Check.Agent
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := dial(limited, "tcp", Target{Address: netip.AddrPortFrom(t.Address.Addr(), c.Port)})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer interrupt(limited, conn)()
	if c.Send != "" {
		if _, err := io.WriteString(conn, c.Send); err != nil {
			return "", fmt.Errorf("send: %w", err)
		}
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxWord)).ReadString('\n')
	if line == "" && err != nil {
		return "", fmt.Errorf("await answer: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// follow asks the agent of a check again and again until ctx is done.
func (c *Checker) follow(ctx context.Context, k *check) {
	agent := &k.target.Check.Agent
	tick := time.NewTimer(time.Duration(k.place * float64(min(agent.Interval, soon))))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tick.Reset(agent.Interval)
		line, err := askAgent(ctx, k.target)
		if ctx.Err() != nil {
			return
		}
		c.heard(k, line, err)
	}
}

// heard takes over what an agent said. One that says nothing changes nothing.
func (c *Checker) heard(k *check, line string, err error) {
	k.reporting.Lock()
	defer k.reporting.Unlock()
	c.mu.Lock()
	before := k.status.Word
	after, ok := before.hear(line)
	said := k.said
	switch {
	case err != nil:
		k.said = err.Error()
	case !ok:
		k.said = "no word of it is known: " + quote([]byte(line))
	default:
		k.status.Word, k.said = after, ""
	}
	news, status, removed := k.said, k.status, k.removed
	c.mu.Unlock()
	log := c.log.With("address", k.target.Address)
	if news != "" && news != said {
		log.Warn("agent of a backend says nothing that counts", "error", news)
	}
	if !removed && status.Word != before {
		log.Info("agent of a backend has said", "words", line)
		if c.changed != nil {
			c.changed(k.given, status)
		}
	}
}
