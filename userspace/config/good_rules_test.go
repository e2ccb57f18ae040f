package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestRulesOfRoutesAndOfTheirServices(t *testing.T) {
	state, err := Load("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const hash = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"
	pairs := func(all ...string) (list []model.Header) {
		for i := 0; i < len(all); i += 2 {
			list = append(list, model.Header{Name: all[i], Value: all[i+1]})
		}
		return list
	}
	pages := []model.ErrorPage{
		{Low: 500, High: 599, Type: "text/html; charset=utf-8", Body: "<p>down</p>\n", Backends: true},
		{Low: 404, High: 404, Type: "a/b", Body: "none"},
	}
	of := func() model.Rules {
		return model.Rules{
			RequestHeaders: model.HeaderRules{
				Remove: []string{"Cookie"}, Set: pairs("Host", "a.example", "X-A", "1"), Add: pairs("X-B", "b", "X-B", "c", "X-C", "d"),
			},
			ResponseHeaders: model.HeaderRules{Set: pairs("X-D", "1")},
			ErrorPages:      pages,
			Compress:        &model.Compress{Types: defaultTypes, MinSize: 1024, Encodings: []string{"zstd", "br", "gzip"}},
			RequestID:       &model.RequestID{Header: "X-Request-Id"},
			BasicAuth:       &model.BasicAuth{Realm: "restricted", Users: []model.User{{Name: "ann", Hash: hash}, {Name: "bob", Hash: hash}}},
		}
	}
	moved, odd := of(), of()
	moved.Redirect = &model.Redirect{To: "https://$host:8443/new$path", Status: 307}
	odd.Rewrite = &model.Rewrite{Regexp: "^/odd/(.*)$", To: "/${1}x$$"}
	odd.Redirect = &model.Redirect{Regexp: "^/odd/(?P<x>.)$", To: "/$x/$1", Status: 301}
	want := []model.Rules{of(), {
		ResponseHeaders: model.HeaderRules{Remove: []string{"Server"}},
		Rewrite:         &model.Rewrite{Prefix: "/own", To: "/"},
		ErrorPages:      []model.ErrorPage{},
		Compress:        &model.Compress{Types: []string{"text/html"}, Encodings: []string{"gzip"}},
		Replace:         &model.Replace{Types: defaultTypes, Texts: []model.Replacement{{Find: "a", With: "b"}, {Find: "c"}}},
		RequestID:       &model.RequestID{Header: "X-Id", Answer: true},
		ForwardAuth:     &model.ForwardAuth{URL: "https://auth.example/check?a", Headers: []string{"Remote-User"}, Timeout: time.Second},
		Mirror:          &model.Mirror{Pool: "main", Percent: 10, Most: 5},
	}, moved, odd}
	var got []model.Rules
	for _, r := range state.Services[0].HTTP.Routes {
		got = append(got, r.Rules)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pages, state.Services[0].HTTP.ErrorPages); diff != "" {
		t.Errorf("pages without a route (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(of().ResponseHeaders, state.Services[0].HTTP.ResponseHeaders); diff != "" {
		t.Errorf("headers without a route (-want +got):\n%s", diff)
	}
}
