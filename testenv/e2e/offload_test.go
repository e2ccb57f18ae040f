package e2e

import (
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

// tryTCP sends requests until one was answered, or packets with wrong
// checksums arrive at a backend.
func tryTCP(t *testing.T, s *stage.Stage) string {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := s.Spread(0, web, 30)
		done <- err
	}()
	result := ""
	stage.Await(t, "an answer or a wrong checksum", func() error {
		select {
		case err := <-done:
			result = "works"
			return err
		default:
		}
		for _, h := range s.Backends {
			if s.StackCounter(h, "Tcp", "InCsumErrors") > 0 {
				result = "wrong checksums: no connection"
				return nil
			}
		}
		return fmt.Errorf("neither yet")
	})
	return result
}
