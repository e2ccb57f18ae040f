package config

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"fairlead/userspace/model"
)

func TestServicesOfTLS(t *testing.T) {
	got, err := Load("testdata/tls.yaml")
	if err != nil {
		t.Fatal(err)
	}
	own := model.Certificate{Cert: "testdata/site.pem", Key: "testdata/site.key"}
	route := func(match, pool string) model.Route {
		r := model.Route{Match: match, Timeouts: defaultTimeouts}
		if pool != "" {
			r.Pools = []model.Share{{Pool: pool, Weight: 1}}
		}
		return r
	}
	service := func(name, listen string) model.Service {
		s := newService(model.ForwardHTTP).Service
		s.Name, s.Listen = name, netip.MustParseAddrPort(listen)
		s.LastPort = s.Listen.Port()
		return s
	}
	secure, plain := service("secure", "127.0.0.1:443"), service("plain", "127.0.0.1:80")
	both, names := service("both", "127.0.0.1:81"), service("names", "127.0.0.1:444")
	secure.HTTP.TLS = &model.TLS{
		Certificates: []model.Certificate{own, {Vault: "secret/tls/site"}}, ACME: []string{"www.example.com"}, MinVersion: tls.VersionTLS13, ClientCA: own.Cert, ClientAuth: model.ClientRequired,
	}
	secure.HTTP.Routes = []model.Route{route("/", "service/secure")}
	secure.HTTP.HSTS = "max-age=31536000; includeSubDomains; preload"
	secure.HTTP.Routes[0].HSTS = secure.HTTP.HSTS
	plain.HTTP.Routes = []model.Route{route("/", "")}
	plain.HTTP.Routes[0].RedirectHTTPS = 443
	both.HTTP.Routes = []model.Route{route("/a", "names")}
	both.HTTP.Routes[0].RedirectHTTPS = 8443
	names.Forward = model.ForwardTLS
	names.Clients.Allow = prefixes("10.0.0.0/8")
	names.Names = []model.NameRoute{{Name: "example.com", Pool: "names"}, {Name: "*.example.com", Pool: "names"}, {Name: "*", Pool: "names"}}

	shared, ownPool := poolOf("names", backend("10.0.0.2:443", 1)), poolOf("service/secure", backend("10.0.0.1:443", 1))
	shared.Zone, ownPool.Zone = "", ""
	ownPool.Backends[0].Origin.TLS = true
	ownPool.TLS = model.BackendTLS{CA: own.Cert, ServerName: "app", Certificate: own}
	ownPool.Health.Type, ownPool.Health.Path, ownPool.Health.TLS = model.CheckHTTPS, "/", ownPool.TLS
	ownPool.Health.Statuses = []model.StatusRange{{Min: 200, Max: 399}}
	for _, s := range []*model.Service{&secure, &plain, &both} {
		fillBounds(&s.HTTP.Bounds)
	}
	want := got
	want.Vault = &model.Vault{
		Address: "https://vault.example:8200", TokenFile: "testdata/token", CA: own.Cert, Namespace: "team", Refresh: 5 * time.Minute,
	}
	want.ACME = &model.ACME{
		Directory: "https://acme-v02.api.letsencrypt.org/directory", Email: "a@example.com", CA: own.Cert, Storage: "/keys",
		Challenges: []model.Challenge{model.ChallengeALPN},
	}
	want.Services, want.Pools = []model.Service{secure, plain, both, names}, []model.Pool{shared, ownPool}
	check(t, "testdata/tls.yaml", want)
}

func TestParseLooksAtNoFiles(t *testing.T) {
	const file = "xdp: off\nservices: [{name: web, listen: '127.0.0.1:443', forward: http, tls: {certificates: [{cert: /none.pem, key: /none.key}]}, backends: [{address: 10.0.0.1:80}]}]\n"
	s, err := Parse("/etc/fairlead.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Services[0].HTTP.TLS.Certificates[0]; c.Cert != "/none.pem" || c.Key != "/none.key" {
		t.Errorf("%+v", c)
	}
}
