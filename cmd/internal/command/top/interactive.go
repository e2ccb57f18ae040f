package top

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// interactive draws each sample on the terminal until ctx is done, the user ends
// it, or there were as many as asked for. It leaves the terminal as it was.
func (t *top) interactive(ctx context.Context) (err error) {
	if err := t.start(); err != nil {
		return err
	}
	term, err := openTerminal()
	if err != nil {
		return err
	}
	typed, done, ended := make(chan string), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(typed)
		term.keys(func(text string) bool {
			select {
			case typed <- text:
				return true
			case <-done:
				return false
			}
		})
	}()
	defer func() {
		close(done)
		err = errors.Join(err, term.stopKeys())
		<-ended
		err = errors.Join(err, term.restore())
	}()
	return t.watch(ctx, term, typed)
}

// watch draws until it is time to end.
func (t *top) watch(ctx context.Context, term *terminal, typed <-chan string) error {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	s := &screen{sample: t.last.since(nil), interval: t.interval}
	for n := uint(0); t.count == 0 || n < t.count; {
		s.order = orders[t.order]
		s.width, s.height = term.size()
		sortSample(s.sample, s.order)
		if err := term.show(s.draw(), headLines-1); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case text, ok := <-typed:
			if !ok || t.press(s, text) {
				return nil
			}
		case <-resized:
		case <-tick.C:
			s.sample = t.sample()
			n++
		}
	}
	return nil
}

// scrolls are by how many lines, or rooms, a key moves.
var scrolls = []struct {
	keys         []string
	lines, rooms int
}{
	{[]string{"j", "\x1b[B", "\x1bOB"}, 1, 0},
	{[]string{"k", "\x1b[A", "\x1bOA"}, -1, 0},
	{[]string{" ", "\x1b[6~"}, 0, 1},
	{[]string{"\x1b[5~"}, 0, -1},
}

// press does what was typed, which may be many keys, and reports whether to end.
func (t *top) press(s *screen, typed string) (end bool) {
	for typed != "" {
		typed = t.pressOne(s, typed)
		if typed == ended {
			return true
		}
	}
	return false
}

// ended stands for what is left of what was typed after a key that ends.
const ended = "\x03"

// pressOne does the first key, and returns the others.
func (t *top) pressOne(s *screen, typed string) (rest string) {
	for _, k := range scrolls {
		for _, key := range k.keys {
			if rest, ok := strings.CutPrefix(typed, key); ok {
				s.first = max(0, s.first+k.lines+k.rooms*s.room())
				return rest
			}
		}
	}
	if typed[0] == 'q' || typed[0] == ended[0] {
		return ended
	}
	if i := slices.IndexFunc(orders, func(o order) bool { return o.key == typed[0] }); i >= 0 {
		t.order, s.first = i, 0
	}
	return typed[1:]
}
