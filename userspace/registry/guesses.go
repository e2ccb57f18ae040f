package registry

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// Who has given wrong tokens may go on slowly.
const (
	guessEvery = time.Second
	guessBurst = 10
	maxGuesser = 10_000 // networks that are remembered
)

// guesses bounds how often networks may give wrong tokens.
type guesses map[netip.Prefix]*rate.Limiter

func newGuesses() guesses { return guesses{} }

// networkOf returns the network that counts as one client.
func networkOf(client netip.Addr) netip.Prefix {
	bits := 32
	if client = client.Unmap(); client.Is6() {
		bits = 64
	}
	p, _ := client.WithZone("").Prefix(bits) // the zero Addr has the zero Prefix
	return p
}

// tooMany reports whether a network has given too many wrong tokens.
func (g guesses) tooMany(p netip.Prefix, now time.Time) bool {
	l := g[p]
	return l != nil && l.TokensAt(now) < 1
}

// count notes a wrong token. Where too many networks are known, those that may
// guess as before are forgotten, and if there are none, any.
func (g guesses) count(p netip.Prefix, now time.Time) {
	if g[p] == nil && len(g) >= maxGuesser {
		for q, l := range g {
			if l.TokensAt(now) >= guessBurst {
				delete(g, q)
			}
		}
		for q := range g {
			if len(g) < maxGuesser {
				break
			}
			delete(g, q)
		}
	}
	if g[p] == nil {
		g[p] = rate.NewLimiter(rate.Every(guessEvery), guessBurst)
	}
	g[p].AllowN(now, 1)
}
