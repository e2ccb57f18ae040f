package model

import "time"

// Sticky says by what requests come back to the backend that has served their
// client before. The zero value is by nothing.
type Sticky struct {
	By StickyBy
	// Name is that of the cookie or header.
	Name string
	// Lifetime is how long after its last request a client comes back. 0, of
	// cookies only, is for as long as the client keeps the cookie.
	Lifetime time.Duration
	// The rest is of cookies only.
	Path, Domain string
	SameSite     SameSite
	HTTPOnly     bool
	Secure       Secure
	// Key signs cookies. "" is one that the agent makes and keeps.
	Key string
}

// StickyBy is what tells whose request one is.
type StickyBy string

// What requests stick by.
const (
	StickyCookie StickyBy = "cookie" // that the proxy gives clients
	StickyHeader StickyBy = "header" // that clients send
	StickySource StickyBy = "source" // the client's address
)

// SameSite is an attribute of cookies (RFC 6265bis, section 5.6.7).
type SameSite string

// The values of SameSite.
const (
	SameSiteLax    SameSite = "lax"
	SameSiteStrict SameSite = "strict"
	SameSiteNone   SameSite = "none"
)

// Secure says whether clients send a cookie over TLS only.
type Secure string

// The values of Secure.
const (
	SecureAuto Secure = ""      // if the request came over TLS
	SecureYes  Secure = "true"  // always
	SecureNo   Secure = "false" // never
)
