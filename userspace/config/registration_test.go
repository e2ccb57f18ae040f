package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/userspace/model"
)

// registering is a configuration whose registration has some keys.
func registering(keys string) string {
	return "services: [{name: web, listen: 203.0.113.10:80, forward: http, routes: [{match: /, pool: main}]}, " +
		"{name: db, listen: 203.0.113.10:5432, backends: []}, {name: own, listen: 203.0.113.10:81, forward: http, backends: []}]\n" +
		"pools: {main: {backends: []}}\nregistration:\n  " + keys
}

const (
	tokenA = "0123456789abcdef"
	tokens = "tokens: [{token: " + tokenA + ", pool: main}, {token: 1" + tokenA + ", pool: db, networks: [10.0.0.0/8, \"2001:db8::/32\"], max-ttl: 10s}, {token: 2" + tokenA + ", pool: own}, {vault: secret/web, pool: main}]\nvault: {address: 'https://v'}"
)

func TestRegistration(t *testing.T) {
	s, err := Parse("f", []byte(registering("listen: 127.0.0.1:8500\n  "+tokens)))
	if err != nil {
		t.Fatal(err)
	}
	want := &model.Registration{
		Listen: "127.0.0.1:8500",
		Tokens: []model.RegistrationToken{
			{Token: tokenA, Pool: "main", MaxTTL: 5 * time.Minute},
			{Token: "1" + tokenA, Pool: "db", Networks: prefixes("10.0.0.0/8", "2001:db8::/32"), MaxTTL: 10 * time.Second},
			{Token: "2" + tokenA, Pool: "own", MaxTTL: 5 * time.Minute},
			{Vault: "secret/web", Pool: "main", MaxTTL: 5 * time.Minute},
		},
	}
	if diff := cmp.Diff(want, s.Registration, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(s.Pools) != 2 || s.Services[2].HTTP.Routes[0].Pools == nil {
		t.Errorf("pools %+v, routes %+v", s.Pools, s.Services[2].HTTP.Routes)
	}
}

func TestFaultsOfRegistration(t *testing.T) {
	for _, row := range []struct{ keys, want string }{
		{"{}", "registration.listen: is missing: give an address and port, such as 127.0.0.1:8500"},
		{"listen: off\n  " + tokens, `registration.listen: "off" is not an address to listen on: write it like 127.0.0.1:8500`},
		{"listen: 127.0.0.1\n  " + tokens, `registration.listen: "127.0.0.1" is not an address to listen on: write it like 127.0.0.1:8500`},
		{"listen: 10.0.0.1:8500\n  " + tokens, `registration.listen: "10.0.0.1:8500" would show tokens to the network: give cert and key, or listen on 127.0.0.1 or [::1]`},
		{"listen: :8500\n  " + tokens, `registration.listen: ":8500" would show tokens to the network: give cert and key, or listen on 127.0.0.1 or [::1]`},
		{"listen: :8500\n  cert: a.pem\n  " + tokens, "registration.key: is missing: name the file of the certificate's key, in PEM"},
		{"listen: :8500\n  key: a.key\n  " + tokens, "registration.cert: is missing: name the file of the certificate, in PEM"},
		{"listen: :8500\n  cert: a.pem\n  key: a.key\n  " + strings.Replace(tokens, "max-ttl: 10s", "max-ttl: 25h", 1), `registration.tokens[1].max-ttl: "25h" is not from 1s to 24h`},
		{"listen: :80\n  cert: a.pem\n  key: a.key\n  " + tokens, `services[0].listen: "203.0.113.10:80" is where backends register, by registration.listen in line 4: use another port for one of the two`},
		{"listen: 127.0.0.1:8500\n  tokens: []", "registration.tokens: is empty: list at least one, such as - {token: file:/etc/fairlead/web.token, pool: web}"},
		{"listen: 127.0.0.1:8500\n  tokens: [{pool: main}]", "registration.tokens[0].token: is missing: name a file that has it, such as file:/etc/fairlead/web.token"},
		{"listen: 127.0.0.1:8500\n  tokens: [{token: " + tokenA + "}]", "registration.tokens[0].pool: is missing: name the pool whose backends register"},
		{"listen: 127.0.0.1:8500\n  tokens: [{token: short, pool: main}]", "registration.tokens[0].token: is easily guessed: use at least 16 characters, such as those of openssl rand -hex 32"},
		{"listen: 127.0.0.1:8500\n  tokens: [{token: " + tokenA + " x, pool: main}]", "registration.tokens[0].token: has blanks or more than ASCII in it: use letters, digits and signs, such as those of openssl rand -hex 32"},
		{"listen: 127.0.0.1:8500\n  tokens: [{token: " + tokenA + ", pool: main}, {token: " + tokenA + ", pool: db}]", "registration.tokens[1].token: is the same as that of tokens[0], so it would not say which pool is meant: use another"},
		{"listen: 127.0.0.1:8500\n  " + strings.Replace(tokens, "pool: db", "pool: web", 1), `registration.tokens[1].pool: there is no pool "web", nor a service of that name that lists backends: correct the name`},
		{"listen: 127.0.0.1:8500\n  " + strings.Replace(tokens, "pool: db", "pool: main", 1), "services[1].backends: " + noBackends},
		{"listen: 127.0.0.1:8500\n  " + strings.Replace(tokens, "10.0.0.0/8, ", "10.0.0/8, ", 1), `registration.tokens[1].networks[0]: "10.0.0/8" is not a network: ` + likeNetwork},
		{"listen: 127.0.0.1:8500\n  tokens: [{token: " + tokenA + ", pool: main, networks: []}]", "registration.tokens[0].networks: is empty, so nobody could register: list at least one network, such as 10.0.0.0/8, or remove the key"},
	} {
		_, err := Parse("f", []byte(registering(row.keys)))
		text := ""
		for _, line := range lines(err) {
			if strings.Contains(line, tokenA) {
				t.Errorf("%s: shows the token: %s", row.keys, line)
			}
			if _, after, _ := strings.Cut(line, ": "); after == row.want {
				text = after
			}
		}
		if text == "" {
			t.Errorf("%s\n got %q\nwant %s", row.keys, lines(err), row.want)
		}
	}
	_, err := Parse("f", []byte("agent: {metrics: 127.0.0.1:8500}\n"+registering("listen: 127.0.0.1:8500\n  "+tokens)))
	if want := `f:5:11: registration.listen: "127.0.0.1:8500" is where metrics are told, by agent.metrics in line 1: use another port for one of the two`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
