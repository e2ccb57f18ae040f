// Package tracing tells a collector of OpenTelemetry about some of the requests that the
// HTTP proxy serves.
//
// It decides by itself which ones: the others cost a random number. What came with a
// request (W3C Trace Context) is its parent.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// closing bounds how long Close waits for a collector.
const closing = 2 * time.Second

// A Tracer sends spans, in batches, to where a configuration says. Its methods may be
// called from any goroutine.
type Tracer struct {
	sample   int
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// propagator reads and writes the headers traceparent and tracestate.
var propagator propagation.TraceContext

// New returns a tracer. Nothing is sent before there is a span; what cannot be sent is
// lost, and log is told.
func New(conf model.Tracing, version string, log *slog.Logger) (*Tracer, error) {
	at, err := url.Parse(conf.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	if at.Path == "" || at.Path == "/" {
		at.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(at.String()))
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	who := resource.NewSchemaless(attribute.String("service.name", "fairlead"), attribute.String("service.version", version))
	p := sdk.NewTracerProvider(sdk.WithBatcher(&exported{SpanExporter: exporter, log: log}), sdk.WithResource(who), sdk.WithSampler(sdk.AlwaysSample()))
	return &Tracer{max(1, conf.Sample), p, p.Tracer("fairlead/httpproxy")}, nil
}

// An exported logs what goes wrong with batches, in place of telling the process as a
// whole: once until one is taken again.
type exported struct {
	sdk.SpanExporter
	log  *slog.Logger
	said bool
}

// ExportSpans is called by one goroutine at a time.
func (e *exported) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && !e.said {
		e.log.Warn("send traces", "err", err)
	}
	e.said = err != nil
	return nil
}

// Close sends what waits, unless that takes too long.
func (t *Tracer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// A Span is that of one request.
type Span struct{ span trace.Span }

// Begin begins the span of a request of a service; nil if it is not told of. A peer
// that is trusted decides itself for what it has a parent for.
func (t *Tracer) Begin(service string, r *http.Request, trusted bool) *Span {
	h, carrier := r.Header, propagation.HeaderCarrier(r.Header)
	var ctx context.Context
	if trusted && h.Get("Traceparent") != "" {
		ctx = propagator.Extract(context.Background(), carrier)
		if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsSampled() {
			return nil
		} else if !parent.IsValid() {
			ctx = nil
		}
	}
	if ctx == nil {
		if rand.IntN(t.sample) != 0 {
			return nil
		}
		ctx = propagator.Extract(context.Background(), carrier)
	}
	_, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("fairlead.service", service)))
	return &Span{span}
}

// ID returns the number of the trace.
func (s *Span) ID() string { return s.span.SpanContext().TraceID().String() }

// Tell writes into the header of a request to a backend whose child that is.
func (s *Span) Tell(h http.Header) {
	propagator.Inject(trace.ContextWithSpan(context.Background(), s.span), propagation.HeaderCarrier(h))
}

// End ends the span with what became of the request.
func (s *Span) End(r *accesslog.Record) {
	s.span.SetAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.path", r.Path), attribute.String("server.address", r.Host),
		attribute.String("client.address", r.Client), attribute.String("user_agent.original", r.UserAgent),
		attribute.Int("http.response.status_code", r.Status), attribute.String("fairlead.pool", r.Pool),
		attribute.String("fairlead.backend", r.Backend), attribute.Int("fairlead.retries", r.Retries),
		attribute.Float64("fairlead.queue_ms", milliseconds(r.Queue)), attribute.Float64("fairlead.connect_ms", milliseconds(r.Connect)),
		attribute.Float64("fairlead.first_byte_ms", milliseconds(r.FirstByte)),
		attribute.String("fairlead.ended_by", string(r.By)), attribute.String("fairlead.reason", string(r.Reason)),
	)
	if r.Status >= 500 || r.Status == 0 || r.Reason == accesslog.Broken {
		s.span.SetStatus(codes.Error, string(r.Reason))
	}
	s.span.End()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
