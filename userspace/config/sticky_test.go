package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestStickySessions(t *testing.T) {
	cookie := model.Sticky{By: model.StickyCookie, Name: "fairlead-service.web", Path: "/", SameSite: model.SameSiteLax, HTTPOnly: true}
	for _, row := range []struct {
		text string
		want model.Sticky
	}{
		{"cookie", cookie},
		{"{by: cookie}", cookie},
		{"{by: cookie, name: __Host-sid, lifetime: 1h, same-site: none, http-only: false, secure: true, key: 0123456789abcdef}", model.Sticky{
			By: model.StickyCookie, Name: "__Host-sid", Lifetime: time.Hour, Path: "/", SameSite: model.SameSiteNone,
			Secure: model.SecureYes, Key: "0123456789abcdef",
		}},
		{"{by: cookie, path: /shop, domain: example.com, secure: false, same-site: strict}", model.Sticky{
			By: model.StickyCookie, Name: "fairlead-service.web", Path: "/shop", Domain: "example.com", SameSite: model.SameSiteStrict,
			HTTPOnly: true, Secure: model.SecureNo,
		}},
		{"{by: header, name: X-Session}", model.Sticky{By: model.StickyHeader, Name: "X-Session", Lifetime: time.Hour}},
		{"{by: source, lifetime: 10m}", model.Sticky{By: model.StickySource, Lifetime: 10 * time.Minute}},
		{"source", model.Sticky{By: model.StickySource, Lifetime: time.Hour}},
	} {
		s, err := Parse("f", []byte(serviceFile("listen: 203.0.113.10:80\nforward: http\nbackends: [{address: 10.0.0.1:80}]\nsticky: "+row.text)))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(row.want, s.Pools[0].Sticky); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.text, diff)
		}
	}
}

func TestLoadFeedback(t *testing.T) {
	s, err := Parse("f", []byte(serviceFile("listen: 203.0.113.10:80\nforward: http\nbackends: [{address: 10.0.0.1:80}]\nload-feedback: {header: X-Load, expiry: 3s}")))
	if err != nil {
		t.Fatal(err)
	}
	if want := (model.LoadFeedback{Header: "X-Load", Expiry: 3 * time.Second}); s.Pools[0].Load != want {
		t.Errorf("load feedback %+v, want %+v", s.Pools[0].Load, want)
	}
}
