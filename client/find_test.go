package client

import (
	"strings"
	"testing"

	"fairlead/userspace/admin/adminpb"
)

func TestBackendsAreFoundAsTheConfigurationHasThem(t *testing.T) {
	health := &adminpb.GetHealthResponse{Pools: []*adminpb.Pool{{Backends: []*adminpb.Backend{
		{Address: "127.0.0.1:9001", Name: "localhost"}, {Address: "127.0.0.1:9002", Name: "localhost"}, {Address: "[::1]:9002", Name: "localhost"},
		{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:443"}, {Address: "10.0.0.3:*"}, {Address: "[2001:db8::1]:80"},
		{Address: "10.0.0.4:8080", Name: "_http._tcp.web.example"}, {Address: "10.0.0.5:8081", Name: "_http._tcp.web.example"},
	}}}}
	for backend, want := range map[string]string{
		"localhost:9001": "127.0.0.1:9001", "LocalHost:9002": "127.0.0.1:9002 [::1]:9002", "http://localhost:9002/app": "127.0.0.1:9002 [::1]:9002",
		"_http._tcp.web.example": "10.0.0.4:8080 10.0.0.5:8081", "_http._tcp.Web.example.": "10.0.0.4:8080 10.0.0.5:8081", "_http._tcp.example": "",
		"localhost.:9001": "127.0.0.1:9001", "http://localhost.:9001/": "127.0.0.1:9001",
		"127.0.0.1:9002": "127.0.0.1:9002", "localhost:9003": "", "localhost": "",
		"10.0.0.1:80": "10.0.0.1:80", "http://10.0.0.1": "10.0.0.1:80", "http://10.0.0.1/": "10.0.0.1:80", "https://10.0.0.1": "", "10.0.0.1": "",
		"https://10.0.0.2/x": "10.0.0.2:443", "10.0.0.3": "10.0.0.3:*",
		"[2001:db8::1]:80": "[2001:db8::1]:80", "[2001:db8:0::1]:80": "[2001:db8::1]:80", "http://[2001:db8::1]": "[2001:db8::1]:80",
	} {
		var got []string
		for _, b := range find(health, backend) {
			got = append(got, b.GetAddress())
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s is %q, want %q", backend, text, want)
		}
	}
}
