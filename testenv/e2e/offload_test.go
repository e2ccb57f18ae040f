package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// TestModesAndOffloads finds out what works in each mode, with checksums that
// the senders compute and with checksums that they leave to a device. The
// documentation has the same table.
func TestModesAndOffloads(t *testing.T) {
	const doc = "../../docs/offloads.md"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode              string
		senders, balancer bool
	}{
		{"native", false, false},
		{"native", true, false},
		{"generic", false, false},
		{"generic", true, true},
		{"generic", true, false},
	} {
		t.Run(fmt.Sprintf("%s, senders %t, balancer %t", c.mode, c.senders, c.balancer), func(t *testing.T) {
			s := newStage(t, testenv.RigOptions{})
			setOffloads(t, s, c.senders, c.balancer)
			configure(s, "")
			s.Loader("attach", "--mode", c.mode).OK(t)
			row := fmt.Sprintf("| %s | %s | %s | %s |", c.mode, onOff(c.senders), onOff(c.balancer), tryTCP(t, s))
			t.Log(row)
			if !strings.Contains(string(text), row+"\n") {
				t.Errorf("%s has no line %s", doc, row)
			}
		})
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// setOffloads switches TX checksum offload of clients and backends, and of the
// balancer's interfaces.
func setOffloads(t *testing.T, s *stage.Stage, senders, balancer bool) {
	t.Helper()
	const feature = "tx-checksum-ip-generic"
	for _, hosts := range [][]*testenv.Host{s.Clients, s.Backends} {
		for _, h := range hosts {
			h.SetFeature(t, testenv.Uplink, feature, senders)
			s.Balancer.SetFeature(t, h.Name, feature, balancer)
		}
	}
}

// tryTCP opens connections until they were answered, or packets with wrong
// checksums arrive at a backend.
func tryTCP(t *testing.T, s *stage.Stage) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		c, err := s.Clients[0].DialContext(ctx, "tcp", vip+":80")
		if err == nil {
			_, err = stage.NewTalk(c).Ask()
			err = errors.Join(err, c.Close())
		}
		done <- err
	}()
	wrong := errors.New("neither yet")
	stage.Await(t, "an answer or a wrong checksum", func() error {
		select {
		case wrong = <-done:
			return wrong
		default:
		}
		for _, h := range s.Backends {
			if s.StackCounter(h, "Tcp", "InCsumErrors") > 0 {
				return nil
			}
		}
		return wrong
	})
	if wrong != nil {
		cancel()
		<-done
		return "wrong checksums: no connection"
	}
	wantSpread(t, s, web, 30, map[string]int{"backend1": 10, "backend2": 10, "backend3": 10})
	return "works"
}
