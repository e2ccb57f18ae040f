package datapath

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"fairlead/loader"
	"fairlead/testenv"
)

// openFragments opens those of an instance, with a service on 203.0.113.1:80.
func openFragments(t *testing.T, inst *loader.Instance) *Fragments {
	t.Helper()
	w, err := New(inst.Maps())
	if err != nil {
		t.Fatal(err)
	}
	reconcile(t, w, &Want{Services: []Service{service("a", 80, 1)}})
	f, err := OpenFragments(inst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// next is the next fragment, which must come.
func next(t *testing.T, f *Fragments) (of loader.Fragment, ifindex uint32, frame []byte) {
	t.Helper()
	of, ifindex, frame, err := f.Next(time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return of, ifindex, frame
}

func wantVerdicts(t *testing.T, maps *loader.Maps, v loader.Verdict, n uint64) {
	t.Helper()
	all, err := maps.ReadVerdicts()
	if err != nil || all[v] != n {
		t.Errorf("%s is %d, %v, want %d", v, all[v], err, n)
	}
}

func TestFragmentsThereAndBack(t *testing.T) {
	host, inst := newInstance(t, loader.Sizes{})
	f := openFragments(t, inst)
	whole := testenv.UDPFrame(testenv.FrameSpec{
		Src: netip.MustParseAddrPort("10.1.1.2:1000"), Dst: netip.MustParseAddrPort("203.0.113.1:7"), ID: 99, Payload: make([]byte, 2000),
	})
	first, later := testenv.Fragment(whole, 0, 1000), testenv.Fragment(whole, 1000, 0)
	host.Inject(t, "lo", later)
	of, ifindex, frame := next(t, f)
	want := loader.Fragment{Saddr: loader.AddressOf(netip.MustParseAddr("10.1.1.2")), Daddr: loader.AddressOf(netip.MustParseAddr("203.0.113.1")), Id: uint32(be16(99)), Proto: 17}
	if of != want || ifindex != 1 || !bytes.Equal(frame, later) {
		t.Errorf("%+v came in by %d: %x, want %+v by 1: %x", of, ifindex, frame, want, later)
	}
	wantVerdicts(t, inst.Maps(), loader.LBVerdictHOLD_FRAGMENT, 1)
	if has, err := f.HasFirst(of); has || err != nil {
		t.Errorf("the first has come: %t, %v", has, err)
	}
	held := bytes.Clone(frame)

	host.Inject(t, "lo", first) // to nobody's port
	if of, _, frame := next(t, f); of != want || len(frame) != 0 {
		t.Errorf("told of %+v with %x, want %+v", of, frame, want)
	}
	if has, err := f.HasFirst(of); !has || err != nil {
		t.Errorf("the first has come: %t, %v", has, err)
	}
	wantVerdicts(t, inst.Maps(), loader.LBVerdictPASS_OTHER, 1)
	host.Do(t, func() error { return f.GiveBack(ifindex, held) })
	// In generic mode, the stack shows a frame that passes to XDP once more.
	wantVerdicts(t, inst.Maps(), loader.LBVerdictPASS_OTHER, 3)
}

// TestLongestFragment sends back as much as the kernel part gives to hold.
func TestLongestFragment(t *testing.T) {
	host, inst := newInstance(t, loader.Sizes{})
	f := openFragments(t, inst)
	const longest = 3000
	for n, want := range map[int]loader.Verdict{longest: loader.LBVerdictHOLD_FRAGMENT, longest + 1: loader.LBVerdictDROP_FRAGMENT} {
		whole := testenv.UDPFrame(testenv.FrameSpec{
			Src: netip.MustParseAddrPort("10.1.1.2:1000"), Dst: netip.MustParseAddrPort("203.0.113.1:7"), Payload: make([]byte, n-34),
		})
		host.Inject(t, "lo", testenv.Fragment(whole, 8, 0))
		if want == loader.LBVerdictHOLD_FRAGMENT {
			_, ifindex, frame := next(t, f)
			host.Do(t, func() error { return f.GiveBack(ifindex, frame) })
			next(t, f) // its first has still not come
			wantVerdicts(t, inst.Maps(), want, 2)
		} else {
			wantVerdicts(t, inst.Maps(), want, 1)
		}
	}
}

func TestNoFragments(t *testing.T) {
	_, inst := newInstance(t, loader.Sizes{})
	f := openFragments(t, inst)
	if _, _, _, err := f.Next(time.Now().Add(-time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with nothing there: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	ended := make(chan error)
	go func() {
		_, _, _, err := f.Next(time.Now().Add(time.Hour))
		ended <- err
	}()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v, want %v", err, os.ErrClosed)
	}
}
