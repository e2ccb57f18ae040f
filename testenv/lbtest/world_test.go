package lbtest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	"fairlead/testenv"
)

// The addresses of the tables' world.
var (
	client = netip.MustParseAddrPort("198.51.100.1:40000")
	web    = netip.MustParseAddrPort("203.0.113.10:80") // service 1, TCP
	dns    = netip.MustParseAddrPort("203.0.113.10:53") // service 2, UDP
	proxy  = netip.MustParseAddrPort("203.0.113.10:8080")
	remote = netip.MustParseAddrPort("203.0.113.11:80") // not on this host
	other  = netip.MustParseAddrPort("203.0.113.99:80") // nobody's
	back1  = netip.MustParseAddrPort("10.0.0.2:8080")
	back2  = netip.MustParseAddrPort("10.0.0.3:80") // row says port 0: as asked
	dns1   = netip.MustParseAddrPort("10.0.0.4:5353")
	router = netip.MustParseAddr("10.0.0.1") // the balancer towards backends
)

const (
	now        = uint32(100000)
	hz         = 250
	uplink     = 5 // the interface to the backends
	tcpNew     = 1000
	tcpOpen    = 5000
	tcpFin     = 500
	udpNew     = 600
	udpOpen    = 2000
	replyLimit = 2
	slotUnset  = 99
	buckets    = 8 // of the flow table
	mtu        = 1500
)

// A world is a datapath with the configuration of the tables.
type world struct {
	*Datapath
	tb     testing.TB
	mixed  bool      // services are between families
	dry    *Datapath // runs dry in this world before each row's packet; may be nil
	canCut bool      // since 6.18 a test run may choose the first buffer
}

func newWorld(tb testing.TB, fault uint32) *world {
	tb.Helper()
	w := &world{tb: tb, Datapath: Load(tb, sizes(ipv4), fault)}
	_, _, _, err := w.RunLinear(make([]byte, 100), 50)
	if w.canCut = err == nil; !w.canCut {
		tb.Log("this kernel's test runs cannot choose the first buffer: rows that do are left out")
	}
	return w
}

// sizes are those of maps that are larger than the tables need, and would take
// long to empty.
func sizes(f family) map[string]uint32 {
	return map[string]uint32{
		loader.LBMapFlows + f.suffix: buckets, loader.LBMapLocks: buckets, loader.LBMapSnat: 16,
		loader.LBMapSources + f.suffix: 1024, loader.LBMapAffinity + f.suffix: 1024, loader.LBMapFragments: 1024,
		loader.LBMapStandby + f.suffix: 64, loader.LBMapDevices: 64, loader.LBMapEvents: uint32(os.Getpagesize()),
		lbMapFibs: 64, lbMapConnections: 64, lbMapRivals: 64, lbMapFirstRivals: 64,
	}
}

func (w *world) must(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) put(name string, key, value any) {
	w.tb.Helper()
	w.must(w.Maps[name].Put(key, value))
}

// reset makes the world new: services, no flows.
func (w *world) reset() {
	w.tb.Helper()
	w.must(w.Clear())
	silence(w)
	w.at(now)
	w.must(w.SetMonotonic(1e9))
	w.must(w.SetAgent(false))
	w.must(w.SetRandom(0))
	w.control(func(*loader.Control) {})
	w.put(loader.LBMapDevices, uint32(Ingress), loader.Device{Flags: uint32(loader.LBDeviceFlagDEVICE_TX)})
	w.put(loader.LBMapDevices, uint32(uplink), loader.Device{})
	switch {
	case w.mixed:
		w.settleMixed()
	case w.family.suffix == ipv6.suffix:
		w.settle6()
	default:
		w.settle()
	}
}

// settle makes the services and backends of the tables.
func (w *world) settle() {
	w.tb.Helper()
	w.service(1, web, 6, func(s *loader.Service) { s.Slots, s.SlotsAll = 0<<32|2, 0<<32|2 })
	w.service(2, dns, 17, func(s *loader.Service) { s.Slots, s.SlotsAll = 2<<32|1, 2<<32|1 })
	w.service(3, proxy, 6, func(s *loader.Service) { s.State = uint8(loader.LBServiceStateSERVICE_PROXY) })
	w.service(4, remote, 6, func(s *loader.Service) { s.Flags = 0; s.Slots = 0<<32 | 2 })
	w.backend(2, back1, 1, func(*loader.Backend) {})
	w.backend(3, back2, 1, func(b *loader.Backend) { b.Port = 0 })
	w.backend(4, dns1, 2, func(*loader.Backend) {})
	for i, row := range []uint32{2, 3, 4, slotUnset} {
		w.put(loader.LBMapSlots, uint32(i), row)
	}
	for _, b := range []netip.AddrPort{back1, back2, dns1} {
		w.route(b, RouteFound, uplink)
	}
	w.route(client, RouteFound, Ingress)
}

func (w *world) at(tick uint32) {
	w.tb.Helper()
	w.must(w.SetNow(tick))
}

func (w *world) control(edit func(*loader.Control)) {
	w.tb.Helper()
	c := loader.Control{
		Mode: uint32(loader.LBControlModeMODE_ON), Era: 3, Epoch: 1, Hz: hz, ReplyLimit: replyLimit,
		Idle:  [loader.LBIdleIDLE_MAX]uint32{tcpNew, tcpOpen, tcpFin, udpNew, udpOpen},
		HashA: hashA, HashB: hashB, HashC: hashC, HashD: hashD, HashE: hashE,
	}
	edit(&c)
	w.put(loader.LBMapControl, uint32(0), c)
}

func (w *world) service(row uint32, at netip.AddrPort, proto uint8, edit func(*loader.Service)) {
	w.tb.Helper()
	s := loader.Service{
		Gen: 70 + row, State: uint8(loader.LBServiceStateSERVICE_XDP),
		Flags: uint8(loader.LBServiceFlagSERVICE_LOCAL),
	}
	edit(&s)
	w.put(loader.LBMapServices, row, s)
	if at.Addr().Is6() {
		addr := loader.AddressOf(at.Addr())
		w.put(loader.LB6MapListeners6, loader.Listener6{Addr: addr, Port: port16(at.Port()), Proto: proto}, row)
		w.use(at.Addr(), loader.LBAddressUseADDRESS_SERVICE)
		return
	}
	l := loader.Listener{Addr: addr32(at.Addr()), Port: port16(at.Port()), Proto: proto}
	w.put(loader.LBMapListeners, l, row)
	w.use(at.Addr(), loader.LBAddressUseADDRESS_SERVICE)
}

// use says what an address is to us.
func (w *world) use(addr netip.Addr, as loader.LBAddressUse) {
	w.tb.Helper()
	w.must(w.Own(loader.LBMapVips).Put(addr.AsSlice(), uint32(as)))
}

func (w *world) backend(row uint32, at netip.AddrPort, service uint32, edit func(*loader.Backend)) {
	w.tb.Helper()
	b := loader.Backend{
		Addr: loader.AddressOf(at.Addr()), Port: port16(at.Port()), Gen: 20 + row, Service: service,
		State: uint8(loader.LBBackendStateBACKEND_UP),
	}
	edit(&b)
	w.put(loader.LBMapBackends, row, b)
	w.use(at.Addr(), loader.LBAddressUseADDRESS_BACKEND)
}

// route answers look-ups of to; next to to's MAC stands the balancer's.
func (w *world) route(to netip.AddrPort, result int32, ifindex uint32) {
	w.tb.Helper()
	r := Route{Result: result, Ifindex: ifindex, Mtu: mtu}
	copy(r.Dmac[:], mac(to.Addr().Unmap()))
	copy(r.Smac[:], testenv.MAC(router))
	w.must(w.SetRoute(to.Addr(), r))
}

// send sends frames that are not what the row is about.
func (w *world) send(frames ...[]byte) {
	w.tb.Helper()
	for _, f := range frames {
		if _, _, _, err := w.Run(f); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// An effect is all that one packet does.
type effect struct {
	Action   uint32
	Frame    string // in hex
	Egress   uint32
	Counters map[string]uint64 // those that changed, by how much
}

// effectOf sends a frame, of which so much is linear, and watches.
func (w *world) effectOf(frame []byte, linear int) effect {
	w.tb.Helper()
	w.settleConnections()
	if w.mixed {
		w.drawID()
	}
	before := w.counters()
	action, out, egress, err := w.runCut(frame, linear)
	w.must(err)
	e := effect{Action: action, Frame: hex.EncodeToString(out), Egress: egress, Counters: w.counters()}
	for name, n := range before {
		if e.Counters[name] -= n; e.Counters[name] == 0 {
			delete(e.Counters, name)
		}
	}
	maps.Copy(e.Counters, w.miscounted())
	return e
}

// runCut runs d with a frame, of which so much is linear; 0: what the kernel likes.
func (d *Datapath) runCut(frame []byte, linear int) (action uint32, out []byte, egress uint32, err error) {
	if linear > 0 {
		return d.RunLinear(frame, linear)
	}
	return d.Run(frame)
}

// counters returns every counter that is not zero.
func (w *world) counters() map[string]uint64 {
	w.tb.Helper()
	n := map[string]uint64{}
	add := func(name string, by uint64) {
		if by != 0 {
			n[name] += by
		}
	}
	for v, sum := range w.sums(loader.LBMapVerdicts) {
		add(loader.Verdict(v).String(), sum)
	}
	for kind, sum := range w.sums(loader.LBMapEvictions) {
		add("evicted "+loader.Eviction(kind).String(), sum)
	}
	w.events(add)
	held, told, err := w.Held()
	w.must(err)
	add("held", uint64(held))
	add("told", uint64(told))
	backends, err := Rows[loader.Counters](w.Maps[loader.LBMapBackendCounters])
	w.must(err)
	for i, c := range backends {
		if c == (loader.Counters{}) {
			continue
		}
		row := i / ebpf.MustPossibleCPU()
		add(fmt.Sprintf("backend %d forward packets", row), c.Packets[0])
		add(fmt.Sprintf("backend %d reply packets", row), c.Packets[1])
		add(fmt.Sprintf("backend %d forward bytes", row), c.Bytes[0])
		add(fmt.Sprintf("backend %d reply bytes", row), c.Bytes[1])
		add(fmt.Sprintf("backend %d flows", row), c.Flows)
		for sign, n := range c.Troubles {
			add(fmt.Sprintf("backend %d %s", row, loader.Trouble(sign)), n)
		}
	}
	return n
}

// sums is Sums, which must work.
func (w *world) sums(name string) []uint64 {
	w.tb.Helper()
	sums, err := w.Sums(name)
	w.must(err)
	return sums
}

func addr32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func port16(p uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, p))
}

func flowKey(proto uint8, src, dst netip.AddrPort) loader.FlowKey {
	return loader.FlowKey{
		Saddr: addr32(src.Addr()), Daddr: addr32(dst.Addr()),
		Sport: port16(src.Port()), Dport: port16(dst.Port()), Proto: proto,
	}
}

// edit returns a copy of a frame with some bytes replaced.
func edit(frame []byte, at int, b ...byte) []byte {
	out := slices.Clone(frame)
	copy(out[at:], b)
	return out
}

// pad returns a copy of a frame with n bytes behind it.
func pad(frame []byte, n int) []byte {
	return append(slices.Clone(frame), make([]byte, n)...)
}
