// Package accesslog writes a line for each request and each connection that the
// proxies have served: as JSON, or by a template.
//
// It measures nothing: a proxy fills a [Record] when something is over.
package accesslog

import (
	"strconv"
	"time"
)

// A Record is one request of HTTP, or one connection of TCP, that is over. What does
// not belong to it or is not known is zero.
type Record struct {
	Began    time.Time
	Service  string
	Protocol string // http or tcp
	Client   string // address, with its port unless somebody else forwarded for it
	Peer     string // address:port that has connected
	// Method, Host, Path with its query, and Version are as the client sent them.
	Method, Host, Path, Version string
	UserAgent, Referer          string
	RequestID, TraceID          string
	Status                      int
	Pool, Backend               string
	Retries                     int
	// Queue is how long a request waited for a backend that is free, Connect until
	// the last attempt had a connection, FirstByte from there until the header of
	// the answer, or the first byte of a backend; Total is all of it.
	Queue, Connect, FirstByte, Total time.Duration
	BytesIn, BytesOut                uint64 // of bodies, or of the connection
	Ending
}

// An Ending says who has ended something, and how.
type Ending struct {
	By     Party
	Reason Reason
}

// A Party is one of those that can end something.
type Party string

// The parties. The agent ends what it answers itself, bounds or breaks off.
const (
	Client  Party = "client"
	Backend Party = "backend"
	Agent   Party = "agent"
)

// A Reason is how something has ended.
type Reason string

// The reasons.
const (
	Done      Reason = "done"       // as it should
	Reset     Reason = "reset"      // of a connection
	Gone      Reason = "gone"       // the client has left before the end
	Broken    Reason = "broken"     // the backend has, or has answered with what is no HTTP
	Timeout   Reason = "timeout"    // something took longer than it may
	Limit     Reason = "limit"      // more than the client, or all of them, may
	Denied    Reason = "denied"     // by a rule
	Malformed Reason = "malformed"  // what the client has sent is wrong
	NoBackend Reason = "no-backend" // none is there, or none can be reached
	Cut       Reason = "cut"        // the backend is down or was removed, or the agent ends
)

// A field is what a line may tell of a record, and how.
type field struct {
	name  string
	value func(*Record) string // "" if there is nothing to tell
	text  bool                 // else it is a number
}

func text(name string, value func(*Record) string) field { return field{name, value, true} }

func number(name string, value func(*Record) uint64) field {
	return field{name: name, value: func(r *Record) string { return strconv.FormatUint(value(r), 10) }}
}

// milliseconds are of a duration that may be unknown.
func milliseconds(name string, value func(*Record) time.Duration) field {
	return field{name: name, value: func(r *Record) string {
		if d := value(r); d > 0 {
			return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 3, 64)
		}
		return ""
	}}
}

// clock is how times are written: in UTC.
const clock = "2006-01-02T15:04:05.000Z"

var fields = []field{
	text("time", func(r *Record) string { return r.Began.UTC().Format(clock) }),
	text("service", func(r *Record) string { return r.Service }),
	text("protocol", func(r *Record) string { return r.Protocol }),
	text("client", func(r *Record) string { return r.Client }),
	text("peer", func(r *Record) string { return r.Peer }),
	text("method", func(r *Record) string { return r.Method }),
	text("host", func(r *Record) string { return r.Host }),
	text("path", func(r *Record) string { return r.Path }),
	text("version", func(r *Record) string { return r.Version }),
	text("user_agent", func(r *Record) string { return r.UserAgent }),
	text("referer", func(r *Record) string { return r.Referer }),
	text("request_id", func(r *Record) string { return r.RequestID }),
	text("trace_id", func(r *Record) string { return r.TraceID }),
	{name: "status", value: func(r *Record) string {
		if r.Status == 0 {
			return ""
		}
		return strconv.Itoa(r.Status)
	}},
	text("pool", func(r *Record) string { return r.Pool }),
	text("backend", func(r *Record) string { return r.Backend }),
	number("retries", func(r *Record) uint64 { return uint64(r.Retries) }),
	milliseconds("queue_ms", func(r *Record) time.Duration { return r.Queue }),
	milliseconds("connect_ms", func(r *Record) time.Duration { return r.Connect }),
	milliseconds("first_byte_ms", func(r *Record) time.Duration { return r.FirstByte }),
	milliseconds("total_ms", func(r *Record) time.Duration { return r.Total }),
	number("bytes_in", func(r *Record) uint64 { return r.BytesIn }),
	number("bytes_out", func(r *Record) uint64 { return r.BytesOut }),
	text("ended_by", func(r *Record) string { return string(r.By) }),
	text("reason", func(r *Record) string { return string(r.Reason) }),
}
