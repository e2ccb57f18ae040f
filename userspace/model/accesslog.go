package model

// An AccessLog says where a line is written for each request and each connection that
// the proxies serve; without a File, nowhere.
type AccessLog struct {
	File string // path
	// Format is json, or a template, as package accesslog has it.
	Format string
}

// A FlowLog says where a line is written for flows of the kernel that begin or end, of
// one in Sample; without a File, nowhere.
type FlowLog struct {
	File   string // path
	Sample int
}

// Tracing says where spans of HTTP requests are sent, of one in Sample; without an
// Endpoint, nowhere.
type Tracing struct {
	Endpoint string // URL of OTLP over HTTP
	Sample   int
}
