package stage

import (
	"encoding/json"

	"fairlead/userspace/datapath"
)

// Stats is what loader maps stats tells.
type Stats struct {
	Packets   uint64            `json:"packets"`
	Kinds     map[string]uint64 `json:"kinds"`
	Verdicts  map[string]uint64 `json:"verdicts"`
	Forwarded datapath.Counters `json:"forwarded"`
}

// A BackendRow is what loader maps backends tells of one.
type BackendRow struct {
	Service string `json:"service"`
	datapath.BackendView
}

// Stats asks the loader for the verdicts.
func (s *Stage) Stats() Stats {
	s.tb.Helper()
	var v Stats
	s.maps("stats", &v)
	return v
}

// ServiceRows asks the loader for the services.
func (s *Stage) ServiceRows() []datapath.ServiceView {
	s.tb.Helper()
	var v []datapath.ServiceView
	s.maps("services", &v)
	return v
}

// BackendRows asks the loader for the backends.
func (s *Stage) BackendRows() []BackendRow {
	s.tb.Helper()
	var v []BackendRow
	s.maps("backends", &v)
	return v
}

func (s *Stage) maps(what string, v any) {
	s.tb.Helper()
	out := s.Loader("maps", what, "-o", "json").OK(s.tb)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		s.tb.Fatalf("read loader maps %s: %v\n%s", what, err, out)
	}
}
