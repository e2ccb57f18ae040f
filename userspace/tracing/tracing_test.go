package tracing

import (
	"bytes"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"fairlead/testenv/leak"
	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A receiver is a collector that keeps what it gets.
type receiver struct {
	*httptest.Server
	status int

	mu    sync.Mutex
	spans []*otlp.Span
	paths []string
}

func receive(t *testing.T, status int) *receiver {
	t.Helper()
	r := &receiver{status: status}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var got collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &got) != nil {
			t.Errorf("not what OTLP has: %q, %v", body, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.paths = append(r.paths, req.URL.Path)
		for _, rs := range got.GetResourceSpans() {
			for _, s := range rs.GetScopeSpans() {
				r.spans = append(r.spans, s.GetSpans()...)
			}
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func tracer(t *testing.T, endpoint string, sample int, log io.Writer) *Tracer {
	t.Helper()
	x, err := New(model.Tracing{Endpoint: endpoint, Sample: sample}, "1.2.3", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	parentID = "b7ad6b7169203331"
)

func asked(traceparent string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
		r.Header.Set("Tracestate", "vendor=1")
	}
	return r
}

func TestWhoDecidesWhatIsTold(t *testing.T) {
	const yes, no = "00-" + traceID + "-" + parentID + "-01", "00-" + traceID + "-" + parentID + "-00"
	all, none := tracer(t, "http://127.0.0.1:1", 1, io.Discard), tracer(t, "http://127.0.0.1:1", 1<<40, io.Discard)
	defer all.Close()
	defer none.Close()
	for _, row := range []struct {
		name        string
		tracer      *Tracer
		traceparent string
		trusted     bool
		told, child bool
	}{
		{"all", all, "", false, true, false},
		{"none", none, "", false, false, false},
		{"a trusted peer says yes", none, yes, true, true, true},
		{"a trusted peer says no", all, no, true, false, false},
		{"a stranger says yes", none, yes, false, false, false},
		{"a stranger says no", all, no, false, true, true},
		{"a trusted peer says nothing that holds", all, "00-x", true, true, false},
		{"nor there", none, "00-x", true, false, false},
	} {
		s := row.tracer.Begin("web", asked(row.traceparent), row.trusted)
		if (s != nil) != row.told {
			t.Errorf("%s: told %t", row.name, s != nil)
		}
		if s == nil {
			continue
		}
		h := http.Header{"Traceparent": {"old"}}
		s.Tell(h)
		parts := strings.Split(h.Get("Traceparent"), "-")
		if len(parts) != 4 || parts[1] != s.ID() || (parts[1] == traceID) != row.child || parts[2] == parentID || parts[3] != "01" {
			t.Errorf("%s: backends get %q", row.name, h)
		}
		if row.child && h.Get("Tracestate") != "vendor=1" {
			t.Errorf("%s: tracestate %q", row.name, h.Get("Tracestate"))
		}
	}
}

func TestASampleIsAsLargeAsItShouldBe(t *testing.T) {
	x, told := tracer(t, "http://127.0.0.1:1", 10, io.Discard), 0
	defer x.Close()
	for range 5000 {
		if x.Begin("web", asked(""), false) != nil { // it never ends, so nothing is sent
			told++
		}
	}
	if told < 350 || told > 650 {
		t.Errorf("%d of 5000, want about 500", told)
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	for _, path := range []string{"", "/"} {
		r := receive(t, http.StatusOK)
		x := tracer(t, r.URL+path, 1, io.Discard)
		s := x.Begin("web", asked("00-"+traceID+"-"+parentID+"-01"), false)
		s.End(&accesslog.Record{Method: "GET", Path: "/a", Status: 503, Backend: "10.0.0.1:80", Ending: accesslog.Ending{By: accesslog.Agent, Reason: accesslog.NoBackend}})
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if len(r.spans) != 1 || r.paths[0] != "/v1/traces" {
			t.Fatalf("%q: %d spans at %q", path, len(r.spans), r.paths)
		}
		got, attributes := r.spans[0], map[string]string{}
		for _, a := range got.GetAttributes() {
			attributes[a.GetKey()] = a.GetValue().String()
		}
		if got.GetName() != "GET" || hex.EncodeToString(got.GetTraceId()) != traceID || hex.EncodeToString(got.GetParentSpanId()) != parentID ||
			got.GetKind() != otlp.Span_SPAN_KIND_SERVER || got.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
			t.Errorf("%v", got)
		}
		for key, want := range map[string]string{"fairlead.service": "web", "fairlead.reason": "no-backend", "http.response.status_code": "503", "fairlead.backend": "10.0.0.1:80"} {
			if !strings.Contains(attributes[key], want) {
				t.Errorf("%s is %s, want %s", key, attributes[key], want)
			}
		}
	}
}

func TestACollectorThatRefusesIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	r := receive(t, http.StatusBadRequest)
	x := tracer(t, r.URL, 1, &log)
	for range 3 {
		x.Begin("web", asked(""), false).End(&accesslog.Record{})
		if err := x.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "send traces"); n != 1 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
}
