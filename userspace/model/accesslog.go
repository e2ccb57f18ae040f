package model

// An AccessLog says where a line is written for each request and each connection that
// the proxies serve; without a File, nowhere.
type AccessLog struct {
	File string // path
	// Format is json, or a template, as package accesslog has it.
	Format string
}
