package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// A topSample is what top tells programs, as far as the tests look at it.
type topSample struct {
	Seconds  float64 `json:"seconds"`
	Services []struct {
		Name string `json:"name"`
		topRow
		Backends []struct {
			Address string `json:"address"`
			topRow
		} `json:"backends"`
	} `json:"services"`
}

// A topRow is what services and backends have.
type topRow struct {
	Live  int `json:"live_flows"`
	Rates struct {
		Flows          float64 `json:"new_flows"`
		ForwardPackets float64 `json:"forward_packets"`
		ForwardBytes   float64 `json:"forward_bytes"`
		ReplyPackets   float64 `json:"reply_packets"`
		ReplyBytes     float64 `json:"reply_bytes"`
	} `json:"rates"`
}

// webAndEcho raises a stage with a service of TCP and one of UDP, not attached
// yet.
func webAndEcho(t *testing.T) *stage.Stage {
	t.Helper()
	s := newStage(t, testenv.RigOptions{})
	configureBoth(s)
	return s
}

// configureBoth writes their configuration.
func configureBoth(s *stage.Stage) {
	configure(s, fmt.Sprintf("  - {name: echo, listen: %s:7, protocol: udp, backends: %s, health: {type: none}}", vip, s.BackendList(8080)))
}

func TestTopTellsWhatClientsSent(t *testing.T) {
	s := webAndEcho(t)
	s.Loader("attach").OK(t)
	p := s.Start(s.Balancer, programs.Fairlead, "top", "--batch", "-o", "json", "--interval", "200ms")
	p.AwaitOutput("\n")
	const datagrams = 20
	echoes(t, s, datagrams)
	connections := len(openTalks(t, s))
	want := map[string]datapath.Counters{}
	for _, v := range s.ServiceRows() {
		want[v.Name] = v.Counters
		for _, b := range v.Backends {
			want[v.Name+" "+b.Address] = b.Counters
		}
	}
	const length = 20 + 8 + len("hello")
	if e := want["echo"]; e.Flows != datagrams || e.ForwardPackets != datagrams || e.ForwardBytes != datagrams*uint64(length) {
		t.Errorf("the kernel counted %+v for %d datagrams", e, datagrams)
	}
	stage.Await(t, "top to tell of all of it", func() error {
		sums, last := sumSamples(t, p.Output())
		if diff := cmp.Diff(want, sums); diff != "" {
			return fmt.Errorf("rates times seconds (-counted +told):\n%s", diff)
		}
		for _, v := range last.Services {
			if live := map[string]int{"web": connections, "echo": datagrams}[v.Name]; v.Live != live {
				// A sample counts flows before it reads the counters.
				return fmt.Errorf("%s has %d live flows, want %d", v.Name, v.Live, live)
			}
		}
		return nil
	})
	if code := p.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("top ended with status %d", code)
	}
}

// sumSamples returns what the rates of all samples, times their seconds, add up
// to, by service and by backend, and the last sample.
func sumSamples(t *testing.T, lines string) (sums map[string]datapath.Counters, last topSample) {
	t.Helper()
	sums = map[string]datapath.Counters{}
	for line := range strings.Lines(lines) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		last = topSample{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for _, v := range last.Services {
			sums[v.Name] = plus(sums[v.Name], counted(t, v.topRow, last.Seconds))
			for _, b := range v.Backends {
				sums[v.Name+" "+b.Address] = plus(sums[v.Name+" "+b.Address], counted(t, b.topRow, last.Seconds))
			}
		}
	}
	return sums, last
}

// counted returns what was counted in some seconds, which is a whole number.
func counted(t *testing.T, r topRow, seconds float64) datapath.Counters {
	t.Helper()
	whole := func(rate float64) uint64 {
		n := rate * seconds
		if math.Abs(n-math.Round(n)) > 1e-3 {
			t.Errorf("%v a second for %v seconds is no number of packets", rate, seconds)
		}
		return uint64(math.Round(n))
	}
	v := r.Rates
	return datapath.Counters{
		Flows: whole(v.Flows), ForwardPackets: whole(v.ForwardPackets), ForwardBytes: whole(v.ForwardBytes),
		ReplyPackets: whole(v.ReplyPackets), ReplyBytes: whole(v.ReplyBytes),
	}
}

func plus(a, b datapath.Counters) datapath.Counters {
	return datapath.Counters{
		Flows: a.Flows + b.Flows, ForwardPackets: a.ForwardPackets + b.ForwardPackets, ForwardBytes: a.ForwardBytes + b.ForwardBytes,
		ReplyPackets: a.ReplyPackets + b.ReplyPackets, ReplyBytes: a.ReplyBytes + b.ReplyBytes,
	}
}
