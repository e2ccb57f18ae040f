package daemon

import (
	"log/slog"
	"net/http"

	"fairlead/userspace/model"
	"fairlead/userspace/tracing"
)

// traces are those of all HTTP services.
type traces struct {
	logbook[model.Tracing, *tracing.Tracer]
}

func newTraces(version string, log *slog.Logger) *traces {
	start := func(conf model.Tracing) (*tracing.Tracer, error) { return tracing.New(conf, version, log) }
	return &traces{logbook[model.Tracing, *tracing.Tracer]{key: "tracing", start: start, log: log}}
}

// of returns what begins the spans of a service, whose name may change.
func (x *traces) of(name func() string) func(r *http.Request, trusted bool) *tracing.Span {
	return func(r *http.Request, trusted bool) (s *tracing.Span) {
		x.with(func(t *tracing.Tracer) { s = t.Begin(name(), r, trusted) })
		return s
	}
}
