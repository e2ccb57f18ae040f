package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// XDP does not read packets with IP options. The host's stack does, and hands
// the connection to the standby proxy.
func TestConnectionWithIPOptions(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 1})
	configure(s, "")
	s.StartAgent()
	account := s.Account()
	var c net.Conn
	s.Clients[0].Do(t, func() (err error) {
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return addOptions(c) }}
		d.SetMultipathTCP(false)
		ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
		defer cancel()
		c, err = d.DialContext(ctx, "tcp4", vip+":80")
		return err
	})
	defer c.Close()
	talk := stage.NewTalk(c)
	for range 3 {
		wantAnswer(t, talk, "backend1")
	}
	sums := closeAccount(t, account)
	if n := s.Stats().Verdicts["pass_options"]; n < 5 || sums.XDP != 0 {
		t.Errorf("%d packets with options passed: %+v", n, sums)
	}
	s.AwaitView("the connection to be the proxy's", func(v *view.View) bool { return v.Proxy.TCP.Accepted == 1 })
	wantSound(t, s)
}

// A connection that XDP forwards is unknown to the host's stack, which is given
// the packets that come to have options.
func TestOptionsEndAConnection(t *testing.T) {
	s := attached(t, testenv.RigOptions{Backends: 1})
	talk, err := s.Dial(0, vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, talk, "backend1")
	raw, err := talk.Conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = addOptions(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a, err := talk.Ask(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%+v, %v, want %v", a, err, syscall.ECONNRESET)
	}
}

// addOptions lets a socket's packets have IP options that say nothing.
func addOptions(c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x00")
	})
	return errors.Join(cerr, err)
}

// A tagged frame is the stack's, which drops it if it has no interface for the
// tag. The same frame without a tag makes a flow.
func TestTaggedFramesAreLeftAlone(t *testing.T) {
	s := attached(t, testenv.RigOptions{Backends: 1})
	account := s.Account()
	plain := testenv.TCPFrame(testenv.FrameSpec{
		DstMAC: testenv.MAC(s.ClientAddrs[0].Prev()), Flags: testenv.SYN,
		Src: netip.AddrPortFrom(s.ClientAddrs[0], 40000), Dst: netip.MustParseAddrPort(vip + ":80"),
	})
	once := tagged(plain, 5)
	s.Clients[0].Inject(t, testenv.Uplink, once, tagged(once, 6))
	stage.Await(t, "the tagged frames", func() error {
		if n := s.Stats().Verdicts["pass_vlan"]; n != 2 {
			return fmt.Errorf("%d tagged frames passed, want 2", n)
		}
		return nil
	})
	if sums := closeAccount(t, account); sums.Verdicts != 2 || sums.XDP+sums.Stack+sums.Arrived != 0 {
		t.Errorf("two tagged frames were answered or sent on: %+v", sums)
	}
	s.Clients[0].Inject(t, testenv.Uplink, plain)
	stage.Await(t, "the flow", func() error {
		if n := s.Stats().Forwarded.Flows; n != 1 {
			return fmt.Errorf("%d flows were made, want 1", n)
		}
		return nil
	})
}

// tagged is a frame with one more VLAN tag.
func tagged(frame []byte, id byte) []byte {
	return append(append(frame[:12:12], 0x81, 0, 0, id), frame[12:]...)
}
