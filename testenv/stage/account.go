package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"fairlead/testenv"
	"fairlead/testenv/xdpwatch"
)

// An Account compares what was sent with what was decided and what arrived.
//
// Begun while the datapath is attached and nothing is sent, it holds for any
// traffic: frames sent to the balancer = verdicts, but for those that hold a
// frame until it comes again, and frames that arrived at
// clients and backends = frames that XDP sent + frames that the balancer's own
// stack sent - frames that were lost on the way.
type Account struct {
	s                 *Stage
	clients, backends []*testenv.FrameCounter
	watch             *xdpwatch.Watch
	start             Sums
}

// Sums are numbers of frames.
type Sums struct {
	Sent     uint64 // by clients and backends, and taken by the cable
	Refused  uint64 // by the cable: the balancer's ring was full
	Verdicts uint64
	XDP      uint64 // verdicts that send: redirect, transmit, answers
	Dropped  uint64 // verdicts that drop
	Held     uint64 // verdicts that give a frame to the agent: its second verdict counts
	Stack    uint64 // IP packets that the balancer's stack sent to others, at most
	Chores   uint64 // of Stack: what a host of IPv6 says by itself to neighbours, routers and groups
	Arrived  uint64 // IP frames at clients and backends
	Failed   uint64 // redirects that were refused at once
	Overflow uint64 // sent by either and refused by a device: the ring behind it was full
}

func (a Sums) sub(b Sums) Sums {
	return Sums{
		a.Sent - b.Sent, a.Refused - b.Refused, a.Verdicts - b.Verdicts, a.XDP - b.XDP,
		a.Dropped - b.Dropped, a.Held - b.Held, a.Stack - b.Stack, a.Chores - b.Chores, a.Arrived - b.Arrived, a.Failed - b.Failed, a.Overflow - b.Overflow,
	}
}

// check returns what does not add up.
func (a Sums) check() error {
	var errs []error
	if a.Sent+a.Held != a.Verdicts {
		errs = append(errs, fmt.Errorf("sent %d frames, %d of them twice, verdicts sum up to %d", a.Sent, a.Held, a.Verdicts))
	}
	if lost := a.Failed + a.Overflow; a.XDP+a.Stack != a.Arrived+lost {
		errs = append(errs, fmt.Errorf("XDP sent %d and the stack %d, but %d arrived and %d were lost", a.XDP, a.Stack, a.Arrived, lost))
	}
	return errors.Join(errs...)
}

// Account begins an account.
func (s *Stage) Account() *Account {
	s.tb.Helper()
	a := &Account{s: s, watch: xdpwatch.New(s.tb, s.Balancer)}
	a.clients, a.backends = s.CountFrames(s.tb)
	Await(s.tb, "quiet", func() (err error) {
		a.start, err = a.read()
		return err
	})
	return a
}

// Close waits until everything is at rest and the sums are exact, and returns
// what came since the account began.
func (a *Account) Close() Sums {
	a.s.tb.Helper()
	var d Sums
	Await(a.s.tb, "sums to be exact", func() error {
		now, err := a.read()
		if err != nil {
			return err
		}
		d = now.sub(a.start)
		return d.check()
	})
	return d
}

// read reads everything twice, and fails unless nothing has changed between.
func (a *Account) read() (Sums, error) {
	a.s.tb.Helper()
	first := a.readOnce()
	second := a.readOnce()
	if first != second {
		return second, fmt.Errorf("frames still come: %+v, then %+v", first, second)
	}
	return second, nil
}

func (a *Account) readOnce() Sums {
	a.s.tb.Helper()
	stats, lost := a.s.Stats(), a.watch.Counts()
	n := Sums{
		Verdicts: stats.Packets, XDP: stats.Kinds["forward"] + stats.Kinds["answer"], Dropped: stats.Kinds["drop"], Held: stats.Kinds["hold"],
		Stack:  a.s.Transmits(),
		Failed: lost.RedirectErrors,
	}
	for _, chore := range []string{"OutMLDv2Reports", "OutNeighborSolicits", "OutNeighborAdvertisements", "OutRouterSolicits"} {
		n.Chores += a.s.StackCounter(a.s.Balancer, "Icmp6", chore)
	}
	own, _ := a.s.transmitted(a.s.Balancer, "lo")
	n.Stack -= own
	for _, link := range slices.Concat(a.s.ClientLinks, a.s.BackendLinks) {
		_, refused := a.s.transmitted(a.s.Balancer, link)
		n.Overflow += refused
	}
	// Under a flood both miss some: the watch, and devices with fewer queues
	// than there are CPUs.
	n.Overflow = max(n.Overflow, lost.RedirectDrops+lost.TransmitDrops)
	for _, far := range [][]*testenv.FrameCounter{a.clients, a.backends} {
		for _, c := range far {
			n.Arrived += c.Counts().IPv4 + c.Counts().IPv6
		}
	}
	for _, hosts := range [][]*testenv.Host{a.s.Clients, a.s.Backends} {
		for _, h := range hosts {
			sent, refused := a.s.transmitted(h, testenv.Uplink)
			n.Sent += sent
			n.Refused += refused
		}
	}
	return n
}

// transmitted returns how many frames a host's cable took and refused. XDP is
// attached at the other end, so no frame of the host is a large one.
func (s *Stage) transmitted(h *testenv.Host, link string) (sent, refused uint64) {
	s.tb.Helper()
	h.Do(s.tb, func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		sent, refused = l.Attrs().Statistics.TxPackets, l.Attrs().Statistics.TxDropped
		return nil
	})
	return sent, refused
}

// Transmits returns how many IP packets the balancer's stack has sent, those to
// itself too.
func (s *Stage) Transmits() uint64 {
	s.tb.Helper()
	return s.StackCounter(s.Balancer, "Ip", "OutTransmits") + s.StackCounter(s.Balancer, "Ip6", "OutTransmits")
}

// StackCounter returns a counter of a host's network stack, as nstat does:
// ("Tcp", "InCsumErrors"), ("Udp6", "InCsumErrors"). One that this kernel lacks
// ends the test.
func (s *Stage) StackCounter(h *testenv.Host, group, name string) uint64 {
	s.tb.Helper()
	var n uint64
	h.Do(s.tb, func() (err error) {
		n, err = stackCounter(group, name)
		return err
	})
	return n
}

// stackCounter searches the pairs of lines "Group: name name", "Group: 1 2",
// and those of IPv6, "Groupname 1".
func stackCounter(group, name string) (uint64, error) {
	text, err := os.ReadFile("/proc/thread-self/net/snmp6")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == group+name {
			return strconv.ParseUint(fields[1], 10, 64)
		}
	}
	for _, file := range []string{"snmp", "netstat"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			return 0, err
		}
		lines := strings.Split(string(text), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			if len(names) != len(values) || len(names) == 0 || names[0] != group+":" {
				continue
			}
			for j, n := range names {
				if n == name {
					return strconv.ParseUint(values[j], 10, 64)
				}
			}
		}
	}
	return 0, fmt.Errorf("no counter %s of %s in this kernel", name, group)
}
