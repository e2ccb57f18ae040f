package splice

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A pipe is where spliced bytes stay between two sockets.
type pipe struct{ r, w int }

// pipes are empty ones kept for the next use, while anybody serves.
var pipes = make(chan *pipe, 32)

// serving is how many calls of Serve there are.
var serving atomic.Int64

// keepPipes has pipes kept until drop is called.
func keepPipes() (drop func()) {
	serving.Add(1)
	return func() {
		if serving.Add(-1) > 0 {
			return
		}
		for {
			select {
			case p := <-pipes:
				p.close()
			default:
				return
			}
		}
	}
}

// getPipe returns an empty pipe, nil if the host has none left.
func getPipe() *pipe {
	select {
	case p := <-pipes:
		return p
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	// Users who have many pipes are refused large ones; a small one works.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, spliceSize)
	return &pipe{fds[0], fds[1]}
}

// putPipe takes back an empty pipe.
func putPipe(p *pipe) {
	select {
	case pipes <- p:
	default:
		p.close()
	}
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}
