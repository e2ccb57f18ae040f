package daemon

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// A collected is what a collector of OpenTelemetry got.
type collected struct {
	t     *testing.T
	mu    sync.Mutex
	spans []*otlp.Span
}

func (c *collected) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var got collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &got) != nil {
		c.t.Errorf("not what OTLP has: %q, %v", body, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range got.GetResourceSpans() {
		for _, s := range rs.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
}

// TestRequestsAreTraced: the span of a request is its parent's child, and the backend
// is told that its own are children of that.
func TestRequestsAreTraced(t *testing.T) {
	c := &collected{t: t}
	told := httpServer(t, c.ServeHTTP)
	parents := make(chan string, 10)
	backend := httpServer(t, func(_ http.ResponseWriter, r *http.Request) { parents <- r.Header.Get("Traceparent") })
	access := filepath.Join(t.TempDir(), "access")
	conf := fmt.Sprintf("access-log: {file: %s, format: '{trace_id}'}\nservices: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}]\n", access, site, backend)
	r := runAgent(t, conf)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ask := func() (traceparent string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+site+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return <-parents
	}
	if got := ask(); got != "00-"+trace+"-"+parent+"-01" {
		t.Errorf("without tracing the backend gets %q", got)
	}
	r.reload("tracing: {endpoint: 'http://" + told + "'}\n" + strings.Replace(conf, "name: web", "name: traced", 1))
	r.await("the reload", func(v view.View) bool { return v.Services[0].Name == "traced" })
	got := ask()
	parts := strings.Split(got, "-")
	if len(parts) != 4 || parts[1] != trace || parts[2] == parent {
		t.Fatalf("the backend gets %q", got)
	}
	stage.Await(t, "the access log", func() error {
		data, err := os.ReadFile(access)
		if err != nil || string(data) != "-\n"+trace+"\n" {
			return fmt.Errorf("%q, %w", data, err)
		}
		return nil
	})
	r.reload(conf) // which sends what waits
	stage.Await(t, "a span", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if spans := c.spans; len(spans) != 1 || hex.EncodeToString(spans[0].GetTraceId()) != trace || hex.EncodeToString(spans[0].GetParentSpanId()) != parent || hex.EncodeToString(spans[0].GetSpanId()) != parts[2] {
			return fmt.Errorf("%v", c.spans)
		}
		return nil
	})
}
