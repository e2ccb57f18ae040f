package httpproxy

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/model"
)

func TestReportsOfLoadAreReadAndEndHere(t *testing.T) {
	const orca = "endpoint-load-metrics"
	for _, row := range []struct {
		name, header, lines string
		want                float64
		passes              string // of the lines
	}{
		{"orca as text", orca, "Endpoint-Load-Metrics: TEXT cpu_utilization=0.3, mem_utilization=0.8,rps=10\r\n", 0.3, ""},
		{"orca as json", orca, `endpoint-load-metrics: JSON {"cpu_utilization": 0.25, "named_metrics": {"a": 1}}` + "\r\n", 0.25, ""},
		{"the application before the cpu", orca, "endpoint-load-metrics: TEXT cpu_utilization=0.9,application_utilization=0.5\r\n", 0.5, ""},
		{"an application that says nothing", orca, "endpoint-load-metrics: TEXT cpu_utilization=0.9,application_utilization=0\r\n", 0.9, ""},
		{"idle", orca, "endpoint-load-metrics: TEXT cpu_utilization=0\r\n", 0, ""},
		{"binary is not read", orca, "Endpoint-Load-Metrics-Bin: AAAA\r\n", -1, ""},
		{"neither text nor json", orca, "endpoint-load-metrics: cpu_utilization=0.9\r\n", -1, ""},
		{"broken json", orca, "endpoint-load-metrics: JSON {\r\n", -1, ""},
		{"no number", orca, "endpoint-load-metrics: TEXT cpu_utilization=much\r\n", -1, ""},
		{"not a number", orca, "endpoint-load-metrics: TEXT cpu_utilization=NaN\r\n", -1, ""},
		{"below nothing", orca, "endpoint-load-metrics: TEXT cpu_utilization=-1\r\n", -1, ""},
		{"without end", orca, "endpoint-load-metrics: TEXT cpu_utilization=+Inf\r\n", mostLoad, ""},
		{"too long", orca, "endpoint-load-metrics: TEXT cpu_utilization=0.1," + strings.Repeat("x", maxReport) + "\r\n", -1, ""},
		{"a plain header", "X-Load", "x-load: 0.75\r\n", 0.75, ""},
		{"in percent", "X-Load", "X-Load: 75%\r\n", 0.75, ""},
		{"a plain one that is none", "X-Load", "X-Load: high\r\n", -1, ""},
		{"a header that is not asked for", "X-Load", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.3\r\n", -1, "Endpoint-Load-Metrics: TEXT cpu_utilization=0.3\r\n"},
		{"nobody asks", "", "X-Load: 0.75\r\n", -1, "X-Load: 0.75\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := take(t, func(string, net.Conn) string {
				return "HTTP/1.1 200 OK\r\n" + row.lines + "Date: x\r\nContent-Length: 2\r\n\r\nok"
			})
			conf := poolOf(b.addr())
			conf.Load = model.LoadFeedback{Header: row.header, Expiry: time.Hour}
			f := one(t, conf)
			c, r := f.dial()
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			want := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\n" + row.passes + "Connection: close\r\n\r\nok"
			if !bytes.Equal(sortedHead(got), sortedHead([]byte(want))) {
				t.Errorf("answer\n%s\nwant\n%s", got, want)
			}
			if is := f.pools["main"].Loads()[0]; math.Abs(is-row.want) > 1e-9 {
				t.Errorf("load %v, want %v", is, row.want)
			}
		})
	}
}

// sortedHead returns an answer with the lines of its header in order.
func sortedHead(answer []byte) []byte {
	head, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	slices.Sort(lines[1:])
	return append([]byte(strings.Join(lines, "\r\n")+"\r\n\r\n"), body...)
}

func TestReportsOfLoadInTrailersEndHere(t *testing.T) {
	b := take(t, func(string, net.Conn) string {
		return "HTTP/1.1 200 OK\r\nTrailer: X-Load, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Load: 0.5\r\nX-Sum: 1\r\n\r\n"
	})
	conf := poolOf(b.addr())
	conf.Load = model.LoadFeedback{Header: "X-Load", Expiry: time.Hour}
	f := one(t, conf)
	res, body := f.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if body != "ok" || len(res.Trailer) != 1 || res.Trailer.Get("X-Sum") != "1" {
		t.Errorf("body %q, trailers %v", body, res.Trailer)
	}
	if is := f.pools["main"].Loads()[0]; is != 0.5 {
		t.Errorf("load %v", is)
	}
}

func TestLoadsAreSmoothedAndGrowOld(t *testing.T) {
	var l load
	now := time.Now()
	if l.get(now) != -1 {
		t.Error("a load without a report")
	}
	l.add(1, now)
	l.add(0, now.Add(settles))
	if got := l.get(now); math.Abs(got-1/math.E) > 1e-9 {
		t.Errorf("load %v, want 1/e", got)
	}
	if l.get(now.Add(settles)) < 0 || l.get(now.Add(settles+1)) != -1 {
		t.Error("a report counts too long, or not long enough")
	}
}
