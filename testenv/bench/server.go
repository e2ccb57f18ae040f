package main

import (
	"bytes"
	"fmt"
	"net"
	"strings"
)

// largePath is where answers have largeSize bytes.
const (
	largePath = "/large"
	largeSize = 64 << 10
)

var (
	endOfRequest = []byte("\r\n\r\n")
	wantsClose   = []byte("Connection: close\r\n")
	response     = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nbench")
	wantsLarge   = []byte("GET " + largePath + " ")
	large        = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", largeSize, strings.Repeat("x", largeSize))
	lastResponse = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbench")
)

// answer is an HTTP server for wrk, which sends one request at a time, without
// a body. It does as little as it can, so that what stands before it is seen.
func answer(l net.Listener) { accept(l, answerConn) }

// accept has every connection of l served.
func accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func answerConn(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	have := 0
	for have < len(buf) {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		if !bytes.HasSuffix(buf[:have], endOfRequest) {
			continue
		}
		last, reply := bytes.Contains(buf[:have], wantsClose), response
		if bytes.HasPrefix(buf, wantsLarge) {
			reply = large
		}
		have = 0
		if last {
			_, _ = c.Write(lastResponse) // a client that left needs none
			return
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}
