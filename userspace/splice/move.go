package splice

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reads go through a buffer while they come in small pieces, which costs half
// of what a pipe does. A read that fills the buffer says that more waits: from
// then on the kernel splices, until a splice brings little.
const (
	bufferSize  = 32 << 10
	spliceSize  = 512 << 10
	spliceLeast = 16 << 10
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// A mover moves bytes one way. It holds a buffer or a pipe only while there
// are bytes in it: an idle connection costs neither.
type mover struct {
	dst      *net.TCPConn
	dstRaw   syscall.RawConn
	bulk     bool // splice
	noSplice bool // this socket or host cannot

	// What take got: n bytes in buf, or in pipe if it is set.
	n    int
	err  error
	buf  *[bufferSize]byte
	pipe *pipe
}

// move copies from src to dst until src ends, and counts in moved. Only one of
// the errors is set: srcErr if src is broken or closed, dstErr if dst is.
func move(dst, src *net.TCPConn, moved *flow) (srcErr, dstErr error) {
	srcRaw, err := src.SyscallConn()
	if err != nil {
		return err, nil
	}
	dstRaw, err := dst.SyscallConn()
	if err != nil {
		return nil, err
	}
	m := &mover{dst: dst, dstRaw: dstRaw}
	take := m.take
	for {
		if err := srcRaw.Read(take); err != nil {
			return err, nil
		}
		switch {
		case errors.Is(m.err, io.EOF):
			return nil, nil
		case m.err != nil:
			return m.err, nil
		}
		if err := m.give(moved); err != nil {
			return nil, err
		}
	}
}

// take reads what waits on fd. It returns false if nothing does.
func (m *mover) take(fd uintptr) bool {
	if m.bulk {
		if ready, ok := m.takePipe(int(fd)); ok {
			return ready
		}
		m.bulk = false
	}
	buf := buffers.Get().(*[bufferSize]byte)
	m.n, m.err = retry(func() (int, error) { return unix.Read(int(fd), buf[:]) })
	if m.n > 0 {
		m.buf = buf
		m.bulk = m.n == bufferSize && !m.noSplice
		return true
	}
	buffers.Put(buf)
	return m.ended()
}

// takePipe splices what waits on fd into a pipe. ok false says that this did
// not work, now or ever, and that nothing was read.
func (m *mover) takePipe(fd int) (ready, ok bool) {
	p := getPipe()
	if p == nil {
		return false, false
	}
	m.n, m.err = retry(func() (int, error) {
		n, err := unix.Splice(fd, nil, p.w, nil, spliceSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return int(n), err
	})
	if m.n > 0 {
		m.pipe = p
		m.bulk = m.n >= spliceLeast
		return true, true
	}
	putPipe(p)
	switch {
	case errors.Is(m.err, unix.EINVAL), errors.Is(m.err, unix.ENOSYS), errors.Is(m.err, unix.EPERM):
		m.noSplice = true
		return false, false
	}
	return m.ended(), true
}

// ended judges a read that brought nothing: false if it must wait.
func (m *mover) ended() bool {
	if errors.Is(m.err, unix.EAGAIN) {
		m.err = nil
		return false
	}
	if m.err == nil {
		m.err = io.EOF
	}
	return true
}

// give writes what take got.
func (m *mover) give(moved *flow) error {
	if m.pipe != nil {
		return m.givePipe(moved)
	}
	n, err := m.dst.Write(m.buf[:m.n])
	moved.add(uint64(n))
	buffers.Put(m.buf)
	m.buf = nil
	return err
}

func (m *mover) givePipe(moved *flow) error {
	p := m.pipe
	m.pipe = nil
	var failed error
	err := m.dstRaw.Write(func(fd uintptr) bool {
		for m.n > 0 {
			n, err := retry(func() (int, error) {
				n, err := unix.Splice(p.r, nil, int(fd), nil, m.n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
				return int(n), err
			})
			if n > 0 {
				m.n -= n
				moved.add(uint64(n))
				continue
			}
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			if err == nil {
				err = io.ErrUnexpectedEOF // a pipe of ours cannot end
			}
			failed = err
			break
		}
		return true
	})
	if err = errors.Join(failed, err); err != nil {
		p.close() // bytes are left in it
		return err
	}
	putPipe(p)
	return nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
