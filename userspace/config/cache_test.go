package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestCacheOfServicesAndRoutes(t *testing.T) {
	usual := model.DefaultCache()
	small := model.Cache{Size: 2 << 20, MaxBody: 2 << 20, StaleIfError: time.Minute}
	for _, row := range []struct {
		name, service, route string
		want                 model.Cache
		routes               []bool // the second says nothing
	}{
		{"nobody", "", "", model.Cache{}, []bool{false, false}},
		{"the service", "cache: true", "", usual, []bool{true, true}},
		{"the service, but for a route", "cache: true", ", cache: false", usual, []bool{false, true}},
		{"a route", "", ", cache: true", usual, []bool{true, false}},
		{"the service says no, a route yes", "cache: false", ", cache: true", usual, []bool{true, false}},
		{"the service says no", "cache: false", "", model.Cache{}, []bool{false, false}},
		{"less than the largest body by default", "cache: {size: 2MiB}", "", small, []bool{true, true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := Parse("f", []byte(serviceFile("listen: 203.0.113.10:80\nforward: http\nroutes: [{match: /a, pool: a"+row.route+"}, {match: /, pool: a}]\n"+row.service)+
				"pools: {a: {backends: [{address: 10.0.0.1:80}]}}\n"))
			if err != nil {
				t.Fatal(err)
			}
			h := s.Services[0].HTTP
			if diff := cmp.Diff(row.want, h.Cache); diff != "" {
				t.Errorf("cache (-want +got):\n%s", diff)
			}
			if got := []bool{h.Routes[0].Cache, h.Routes[1].Cache}; !cmp.Equal(got, row.routes) {
				t.Errorf("routes %v, want %v", got, row.routes)
			}
		})
	}
}
