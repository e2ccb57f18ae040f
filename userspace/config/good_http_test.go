package config

import (
	"net/netip"
	"testing"
	"time"

	"fairlead/userspace/model"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// poolOf returns a pool with the defaults.
func poolOf(name string, backends ...model.Backend) model.Pool {
	return model.Pool{
		Service: model.Service{
			Name: name, Protocol: model.TCP, Forward: model.ForwardHTTP, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset,
			PanicThreshold: 50, PassiveThreshold: 1, PassiveResets: 10, Zone: "east", ZoneThreshold: 50, Backends: backends,
			Health: model.Check{Type: model.CheckTCP, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		},
		Retry: model.Retry{Attempts: 2, Budget: 20},
		Eject: model.Eject{Failures: 5, Time: 10 * time.Second, Most: 5 * time.Minute, Share: 50},
	}
}

func TestServicesOfHTTPAndTheirPools(t *testing.T) {
	got, err := Load("testdata/http.yaml")
	if err != nil {
		t.Fatal(err)
	}
	service := func(name, listen string, h model.HTTP) model.Service {
		s := poolOf(name).Service
		s.Health, s.HTTP = model.Check{}, h
		s.HTTP.Bounds = model.Bounds{MaxHeader: 64 << 10, HeaderTimeout: 10 * time.Second, KeepAlive: 2 * time.Minute}
		s.Listen = netip.MustParseAddrPort(listen)
		s.LastPort = s.Listen.Port()
		return s
	}
	own := service("own", "127.0.0.1:8080", model.HTTP{
		Trusted: prefixes("127.0.0.1/32", "2001:db8::/32"),
		Routes: []model.Route{{
			Match: "/", Pools: []model.Share{{Pool: "service/own", Weight: 1}},
			Timeouts: model.HTTPTimeouts{Connect: 3 * time.Second, FirstByte: time.Minute, Idle: 5 * time.Minute},
		}},
	})
	own.Clients.Deny = prefixes("10.0.0.0/8")
	usual := model.HTTPTimeouts{Connect: 3 * time.Second, FirstByte: time.Minute, Idle: time.Hour}
	stored := model.Cache{Size: 1 << 30, MaxBody: 512 << 10, Purge: prefixes("127.0.0.1/32", "10.0.0.0/8")}
	routed := service("routed", "127.0.0.1:8081", model.HTTP{Cache: stored, Routes: []model.Route{
		{Match: "GET example.com/images/", Pools: []model.Share{{Pool: "images", Weight: 1}}, Timeouts: usual, Cache: true},
		{
			Match: "/", Clients: prefixes("10.0.0.0/8"),
			Headers: []model.Header{{Name: "X-Beta", Value: model.AnyValue}},
			Query:   []model.Header{{Name: "beta", Value: "yes"}},
			Cookies: []model.Header{{Name: "beta", Value: "1"}},
			Pools:   []model.Share{{Pool: "main", Weight: 1}}, Timeouts: usual, Cache: true,
		},
		{
			Match: "/", Pools: []model.Share{{Pool: "main", Weight: 95}, {Pool: "images", Weight: 5}},
			Timeouts: model.HTTPTimeouts{Connect: time.Second, FirstByte: 2 * time.Second, Request: 3 * time.Second, Idle: time.Hour},
		},
	}})

	images, main := poolOf("images", backend("10.0.0.2:80", 1)), poolOf("main", backend("10.0.0.3:81", 1))
	main.Backends[0].Origin.Prefix = "/a%2Fb"
	main.Balance = model.Balance{Method: model.SourceHash, TableSize: 65537, Seed: 3}
	ownPool := poolOf("service/own", backend("10.0.0.1:80", 1), backend("[2001:db8::1]:443", 3))
	ownPool.Backends[1].Origin = model.Origin{TLS: true, Prefix: "/app"}
	ownPool.Balance.Method = model.LeastConnections
	ownPool.Health.Type, ownPool.Health.Path, ownPool.Health.Statuses = model.CheckHTTP, "/health", []model.StatusRange{{Min: 200, Max: 399}}
	ownPool.HTTP2, ownPool.KeepAlive, ownPool.MaxRequests = true, time.Minute, 100
	ownPool.Queue = model.Queue{Size: 10, Timeout: time.Second}
	ownPool.Retry = model.Retry{Attempts: 1, Statuses: []int{502, 503}, Budget: 10}
	ownPool.Eject = model.Eject{Failures: 3, Time: 10 * time.Minute, Most: 10 * time.Minute, Share: 50}
	want := got
	want.Services, want.Pools = []model.Service{own, routed}, []model.Pool{images, main, ownPool}
	check(t, "testdata/http.yaml", want)
}
