package testenv

import "net"

// FreeAddress returns an address of loopback, with a port of TCP, where nobody listens.
func FreeAddress(tb TB) string {
	tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}
