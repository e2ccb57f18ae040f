package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// metricsIn are the values of a scrape, by name and labels.
func metricsIn(t *testing.T, client *http.Client, addr string) map[string]float64 {
	t.Helper()
	res, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v\n%s", res.StatusCode, err, body)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			if all[line[:i]], err = strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// answersTo sends n datagrams, one after the other, and returns how long what was
// sent and what was answered is together, as IP has it.
func answersTo(t *testing.T, c net.Conn, n int) (sent, answered int) {
	t.Helper()
	const headers = 20 + 8
	var buf [100]byte
	for range n {
		k, err := c.Write([]byte("question"))
		if err != nil {
			t.Fatal(err)
		}
		sent += k + headers
		if k, err = c.Read(buf[:]); err != nil {
			t.Fatal(err)
		}
		answered += k + headers
	}
	return sent, answered
}

// measuredBench starts an agent whose metrics the client can read: a TCP and a UDP service,
// and one that no client of the rig may use.
func measuredBench(t *testing.T) (*bench, *http.Client) {
	t.Helper()
	b := newBench(t, 2)
	b.opts.Metrics = "127.0.0.1:9100"
	closed := strings.Replace(b.service("closed", "udp", 54), "protocol", "clients: {allow: [192.0.2.0/24]}, protocol", 1)
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), b.service("echo", "udp", 53), closed)
	b.greetAll()
	b.echoUDP(0)
	b.echoUDP(1)
	b.start()
	b.seen("backends to be up", up(true, true))
	return b, &http.Client{Transport: &http.Transport{DialContext: b.Balancer.DialContext, DisableKeepAlives: true}}
}

// dialUDP returns a socket of a client for a port of the service address.
func (b *bench) dialUDP(port int) net.Conn {
	b.t.Helper()
	c, err := b.Clients[0].DialContext(b.t.Context(), "udp", fmt.Sprintf("%s:%d", vip, port))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func ofService(name, service, labels string) string {
	return fmt.Sprintf(`fairlead_xdp_%s{%sservice=%q}`, name, labels, service)
}

// TestMetricsAreWhatClientsOfXDPCounted: packets, bytes and flows, of each backend,
// and why packets were dropped.
func TestMetricsAreWhatClientsOfXDPCounted(t *testing.T) {
	b, client := measuredBench(t)
	plain, denied := b.dialUDP(53), b.dialUDP(54)
	askUDP(t, plain) // whatever has to be found out is known then
	_ = plain.SetDeadline(time.Now().Add(stage.Patience))
	before := metricsIn(t, client, b.opts.Metrics)

	const datagrams, connections, refused = 30, 7, 5
	sent, answered := answersTo(t, plain, datagrams)
	var flows [2]float64
	for range connections {
		_, at := b.opened(80)
		flows[at]++
	}
	for range refused {
		if _, err := denied.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]float64{
		ofService("service_packets_total", "echo", `direction="forward",protocol="udp",`): datagrams,
		ofService("service_packets_total", "echo", `direction="reply",protocol="udp",`):   datagrams,
		ofService("service_bytes_total", "echo", `direction="forward",protocol="udp",`):   float64(sent),
		ofService("service_bytes_total", "echo", `direction="reply",protocol="udp",`):     float64(answered),
		ofService("service_flows_total", "echo", `protocol="udp",`):                       0,
		ofService("service_flows_total", "web", `protocol="tcp",`):                        connections,
		ofService("service_connections", "web", `protocol="tcp",`):                        connections,
		`fairlead_xdp_packets_total{action="drop",reason="denied"}`:                       refused,
	}
	for i, n := range flows {
		want[ofService("backend_flows_total", "web", fmt.Sprintf(`backend="%s:8080",protocol="tcp",`, b.BackendAddrs[i]))] = n
	}
	stage.Await(t, "metrics to be what clients counted", func() error {
		after := metricsIn(t, client, b.opts.Metrics)
		for name, n := range want {
			if got, ok := after[name]; !ok || got-before[name] != n {
				return fmt.Errorf("%s is %v more than before (known: %t), want %v", name, got-before[name], ok, n)
			}
		}
		return nil
	})
}

func TestMetricsOfMapsRungsAndProbes(t *testing.T) {
	b, client := measuredBench(t)
	var got map[string]float64
	stage.Await(t, "the flow table to be searched", func() error {
		if got = metricsIn(t, client, b.opts.Metrics); got[`fairlead_xdp_map_size{map="flows"}`] < 1000 {
			return fmt.Errorf("flow table of %v", got[`fairlead_xdp_map_size{map="flows"}`])
		}
		return nil
	})
	for name, n := range map[string]float64{
		`fairlead_xdp_map_entries{map="services"}`: 3, `fairlead_xdp_map_entries{map="backends"}`: 6, `fairlead_xdp_map_entries{map="listeners"}`: 3,
		`fairlead_xdp_map_entries{map="clients"}`:                                                    2, // the rest of the world is denied
		`fairlead_service_rung{protocol="tcp",rung="xdp-native",service="web"}`:                      1,
		fmt.Sprintf(`fairlead_xdp_interface_attached{interface=%q,mode="native"}`, b.ClientLinks[0]): 1,
	} {
		if got[name] != n {
			t.Errorf("%s is %v, want %v", name, got[name], n)
		}
	}
	if n := got[fmt.Sprintf(`fairlead_backend_probes_total{backend="%s:8080",pool="",result="success",service="web"}`, b.BackendAddrs[0])]; n == 0 ||
		n > got[fmt.Sprintf(`fairlead_backend_probe_duration_seconds_count{backend="%s:8080",pool="",service="web"}`, b.BackendAddrs[0])] {
		t.Errorf("%v probes, but not so many durations", n)
	}
}

// TestMetricsAreWhatClientsOfProxiesCounted: bytes of TCP.
func TestMetricsAreWhatClientsOfProxiesCounted(t *testing.T) {
	addr, plain := testenv.FreeAddress(t), testenv.FreeAddress(t)
	runAgent(t, fmt.Sprintf("agent: {metrics: '%s'}\nservices: [{name: plain, listen: '%s', forward: proxy, backends: [{address: %q}]}]\n", addr, plain, echo(t).Addr()))
	const words = "twelve bytes"
	c, err := net.Dial("tcp", plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(words)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(words))); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	stage.Await(t, "all bytes to be counted", func() error {
		got := metricsIn(t, client, addr)
		for _, direction := range directionNames {
			if n := got[fmt.Sprintf(`fairlead_proxy_bytes_total{direction=%q,protocol="tcp",service="plain"}`, direction)]; n != float64(len(words)) {
				return fmt.Errorf("%v bytes of %s, want %d", n, direction, len(words))
			}
		}
		return nil
	})
}

var directionNames = []string{"forward", "reply"}
