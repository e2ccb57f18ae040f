package daemon

import (
	"sync/atomic"
	"syscall"

	"fairlead/userspace/host"
	"fairlead/userspace/udpproxy"
)

// defaultSockets is how many sockets the proxies open for ranges of ports,
// beyond one for each service.
const defaultSockets = 16384

// limits are what all proxies together may take of the host.
type limits struct {
	flows   *udpproxy.Room // of UDP, each with a socket and a port
	sockets *budget        // for the ports of a range that follow the first
}

// newLimits sets the limits that the options name. The others are such that
// they leave the host most of its ports and descriptors.
func newLimits(o Options) limits {
	flows, sockets := o.ProxyFlows, o.ProxySockets
	files := openFiles()
	if flows == 0 {
		flows = min(udpproxy.DefaultMaxFlows, files/4)
		if ports, err := host.LocalPorts(); err != nil {
			o.Log.Warn("look how many ports there are for proxies", "err", err)
		} else {
			flows = min(flows, ports.Len()/2)
		}
	}
	if sockets == 0 {
		sockets = min(defaultSockets, files/4)
	}
	return limits{flows: &udpproxy.Room{Max: max(flows, 1)}, sockets: &budget{max: int64(sockets)}}
}

// openFiles returns how many descriptors this process may have.
func openFiles() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 1024 // what every process may have
	}
	return int(min(files.Cur, 1<<30))
}

// A budget is a number of things that may be taken. It is safe for concurrent
// use.
type budget struct {
	max   int64
	taken atomic.Int64
}

func (b *budget) take() bool {
	if b.taken.Add(1) <= b.max {
		return true
	}
	b.give()
	return false
}

func (b *budget) give() { b.taken.Add(-1) }
