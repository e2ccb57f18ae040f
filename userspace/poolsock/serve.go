package poolsock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"fairlead/userspace/control"
	"fairlead/userspace/peercred"
)

// Bounds of a request.
const (
	maxLine = 64 << 10
	maxRest = 1 << 20 // of a line that is too long: it is read, and counts for nothing
	maxIdle = 5 * time.Second
	maxTime = 30 * time.Second // from the first byte that is awaited to the last one that is read
)

// Faults of a request.
var (
	errIdle  = errors.New("no line in time: end it with a newline")
	errSlow  = errors.New("no whole line in time: send it at once")
	errLong  = fmt.Errorf("the line has more than %d bytes", maxLine)
	errCut   = errors.New("the line has no end: end it with a newline")
	errEmpty = errors.New("no backends: list at least one, such as http://localhost:3000")
	errRoom  = fmt.Errorf("more than %d connections at once: try again", maxOpen)
)

// accept serves the connections of a pool's socket until it is closed.
func (s *Server) accept(pool string, k *socket) {
	for {
		conn, err := k.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // descriptors, which others may give back
			s.log.Warn("accept on pool socket", "pool", pool, "err", err)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue
		}
		select {
		case s.room <- struct{}{}:
		default:
			s.end(s.reader(conn), errRoom)
			continue
		}
		s.open.Go(func() {
			defer func() { <-s.room }()
			from := s.reader(conn)
			s.end(from, s.serve(pool, from))
		})
	}
}

// end answers and closes a connection.
func (s *Server) end(conn *reader, fault error) {
	answer := "ok\n"
	if fault != nil {
		answer = "fault: " + oneLine(fault.Error()) + "\n"
	}
	_ = conn.SetWriteDeadline(time.Now().Add(maxIdle))
	_, _ = io.WriteString(conn, answer) // whoever has gone will not read it
	if errors.Is(fault, errLong) {
		s.skip(conn)
	}
	conn.Close()
}

// skip reads on from somebody who has his answer: who still writes when the connection
// ends may not see it.
func (s *Server) skip(conn *reader) {
	defer interruptReads(s, conn)()
	if conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxRest)
	}
}

// serve reads a request and carries it out.
func (s *Server) serve(pool string, conn *reader) error {
	peer, err := peercred.Of(conn.UnixConn)
	if err != nil {
		return err
	}
	if !s.allows(peer) {
		s.log.Warn("refused to change a pool", "pool", pool, "peer", peer.String())
		return fmt.Errorf("%s may not change pools", peer)
	}
	defer interruptReads(s, conn)()
	line, err := readLine(conn)
	if err != nil {
		return err
	}
	backends, err := parse(line)
	if err != nil {
		return err
	}
	_, err = s.plane.Change(s.ctx, control.Request{
		Who:   peer.String(),
		Edits: []control.Edit{{Op: control.OpSetBackends, Pool: pool, Backends: backends}},
		Force: true, // who writes the line knows what is there
	})
	return err
}

func (s *Server) allows(p peercred.Peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allowed.Allows(p)
}

// interruptReads ends reads from conn when the server ends, until the function that
// it returns is called.
func interruptReads(s *Server, conn *reader) func() {
	done := make(chan struct{})
	s.open.Go(func() {
		select {
		case <-s.ctx.Done():
			conn.Close()
		case <-done:
		}
	})
	return func() { close(done) }
}

// readLine returns the first line of what is read, without its end.
func readLine(from io.Reader) (string, error) {
	r := bufio.NewReaderSize(from, maxLine+1)
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		return strings.TrimRight(string(line), "\r\n"), nil
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errLong
	case errors.Is(err, errIdle), errors.Is(err, errSlow):
		return "", err
	case errors.Is(err, io.EOF) && len(line) == 0:
		return "", errEmpty
	case errors.Is(err, io.EOF):
		return "", errCut
	}
	return "", fmt.Errorf("read line: %w", err)
}

// A reader is a connection whose reads have the same time each, and an end for all.
type reader struct {
	*net.UnixConn
	idle time.Duration
	end  time.Time
}

func (s *Server) reader(conn *net.UnixConn) *reader {
	return &reader{conn, s.idle, time.Now().Add(s.whole)}
}

// Read fails with errIdle if nothing comes, with errSlow when the end has come.
func (r *reader) Read(p []byte) (int, error) {
	until, late := time.Now().Add(r.idle), errIdle
	if until.After(r.end) {
		until, late = r.end, errSlow
	}
	if err := r.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := r.UnixConn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = late
	}
	return n, err
}

// parse returns the backends of a line.
func parse(line string) ([]string, error) {
	if strings.TrimSpace(line) == "" {
		return nil, errEmpty
	}
	backends := strings.Split(line, ",")
	for i, b := range backends {
		if backends[i] = strings.TrimSpace(b); backends[i] == "" {
			return nil, fmt.Errorf("backend %d of %d is empty: remove a comma", i+1, len(backends))
		}
	}
	return backends, nil
}

// oneLine returns text without line ends and other characters that move a cursor.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}
