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
		mode, senders string
		cable         []testenv.CableOption
	}{
		{"native", "off", nil},
		{"generic", "off", nil},
		{"native", "on", []testenv.CableOption{testenv.TXChecksum()}},
		{"generic", "on", []testenv.CableOption{testenv.TXChecksum()}},
	} {
		t.Run(c.mode+" "+c.senders, func(t *testing.T) {
			s := newStage(t, testenv.RigOptions{Cable: c.cable})
			configure(s, "")
			s.Loader("attach", "--mode", c.mode).OK(t)
			row := fmt.Sprintf("| %s | %s | %s |", c.mode, c.senders, tryTCP(t, s))
			t.Log(row)
			if !strings.Contains(string(text), row+"\n") {
				t.Errorf("%s has no line %s", doc, row)
			}
		})
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
				result = "wrong checksums: receivers drop the packets"
				return nil
			}
		}
		return fmt.Errorf("neither yet")
	})
	return result
}
