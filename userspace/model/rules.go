package model

import "time"

// Rules say what is changed of the requests and answers of a route, and what is
// answered in place of a backend. The zero value changes nothing.
type Rules struct {
	RequestHeaders  HeaderRules // of what backends get
	ResponseHeaders HeaderRules // of what clients get
	Rewrite         *Rewrite
	Redirect        *Redirect
	// ErrorPages stand in place of bodies; of those for a status the first counts.
	ErrorPages []ErrorPage
	Compress   *Compress
	Replace    *Replace
	RequestID  *RequestID
	BasicAuth  *BasicAuth
	// ForwardAuth asks somebody else whether requests may pass.
	ForwardAuth *ForwardAuth
	Mirror      *Mirror
}

// HeaderRules change headers: some are removed, then others set, in place of what
// is there, then others added.
type HeaderRules struct {
	Remove   []string
	Set, Add []Header
}

// A Rewrite changes the paths that backends are asked for. Either Prefix or Regexp
// is set.
type Rewrite struct {
	// Prefix are the first segments of paths, To is put in their place. It
	// begins with / and does not end with one, but for / itself.
	Prefix string
	// Regexp is a regular expression; To, with its groups, is put in place of
	// all that it matches.
	Regexp string
	To     string
}

// A Redirect answers requests with another location.
type Redirect struct {
	// Regexp is what paths must match, or else the request goes on. Empty: all.
	Regexp string
	// To is the location: with $path, $host and the groups of Regexp. The query
	// follows unless To has one.
	To     string
	Status int
}

// An ErrorPage is the body of answers with some statuses.
type ErrorPage struct {
	Low, High  int    // 400 to 599
	Type, Body string // Type is a Content-Type
	// Backends says that it stands in place of what backends say, too.
	Backends bool
}

// Compress says which answers are sent compressed.
type Compress struct {
	Types []string // of Content-Type, such as text/html or text/*
	// MinSize is the least length, in bytes, if it is known.
	MinSize int
	// Encodings are some of zstd, br and gzip, those that we like best first.
	Encodings []string
}

// Replace puts texts in place of others in the answers of backends.
type Replace struct {
	Types []string // as in Compress
	Texts []Replacement
}

// A Replacement is a text and what is put in its place. Find is not empty.
type Replacement struct{ Find, With string }

// RequestID gives requests a name, by which logs on all sides tell them apart.
type RequestID struct {
	Header string
	Answer bool // clients get it too
}

// BasicAuth lets nobody pass who is not one of the users (RFC 7617).
type BasicAuth struct {
	Realm string
	Users []User
}

// A User has a password, of which Hash is the bcrypt hash.
type User struct{ Name, Hash string }

// ForwardAuth has each request judged by whoever answers at URL: a status of 2xx
// lets it pass, any other answer is the client's.
type ForwardAuth struct {
	URL string
	// Headers of such an answer that the request gets, in place of what the
	// client says.
	Headers []string
	Timeout time.Duration
}

// Mirror sends copies of requests to another pool, whose answers are dropped.
type Mirror struct {
	Pool    string
	Percent int // of the requests, 1 to 100
	MaxBody int // bytes; requests with more are not copied
	// Most are the copies that may be on their way at once.
	Most int
}
