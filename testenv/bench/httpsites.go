package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"fairlead/testenv"
)

// Each of these sites listens without TLS at port 80 and with it, HTTP/2 too, at
// port 443; has three backends in turns, spoken to over connections that are kept;
// tells them of the client; writes no log; and has as many threads as processors.

// servers returns what text, with a verb for an address, makes of the backends.
func (s *site) servers(text string) string {
	var all strings.Builder
	for _, a := range s.rig.BackendAddrs {
		fmt.Fprintf(&all, text, fmt.Sprintf("%s:%d", a, serverPort))
	}
	return all.String()
}

// certificate writes a new one for the address of the service, and its key.
func (s *site) certificate() (cert, key, both string) {
	s.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatalf("make key: %v", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{vip.AsSlice()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, signer.Public(), signer)
	if err != nil {
		s.Fatalf("make certificate: %v", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		s.Fatalf("make key: %v", err)
	}
	c := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	k := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return s.write("cert.pem", c), s.write("key.pem", k), s.write("both.pem", c+k)
}

// fairleadHTTP runs the agent.
func fairleadHTTP(b *bench, fairlead string) *site {
	b.Helper()
	s := newSite(b)
	cert, key, _ := s.certificate()
	config := s.write("fairlead.yaml", fmt.Sprintf(`xdp: off
services:
  - {name: web, listen: "%[1]s:80", forward: http, routes: [{match: /, pool: main}]}
  - name: secure
    listen: %[1]s:443
    forward: http
    tls: {certificates: [{cert: %[2]s, key: %[3]s}]}
    routes: [{match: /, pool: main}]
pools:
  main:
    health: {type: none}
    backends:
%[4]s`, vip, cert, key, s.servers("      - address: %s\n")))
	dir := filepath.Dir(config)
	s.start(exec.Command(fairlead, "run", "--config", config, "--run-dir", filepath.Join(dir, "run"),
		"--pin-dir", filepath.Join(testenv.BPFFS(b), "fairlead"), "--state-dir", "off", "--log-level", "warn"))
	return s
}

func haproxyHTTP(b *bench) *site {
	b.Helper()
	s := newSite(b)
	_, _, both := s.certificate()
	s.takeAddress()
	config := s.write("haproxy.cfg", fmt.Sprintf(`global
  maxconn 4000
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
  option forwardfor
  http-reuse always
listen bench
  bind %[1]s:80
  bind %[1]s:443 ssl crt %[2]s alpn h2,http/1.1
  balance roundrobin
%[3]s`, vip, both, s.servers("  server %[1]s %[1]s\n")))
	s.start(exec.Command("haproxy", "-db", "-q", "-f", config))
	return s
}

func nginxHTTP(b *bench) *site {
	b.Helper()
	s := newSite(b)
	cert, key, _ := s.certificate()
	s.takeAddress()
	config := s.write("nginx.conf", fmt.Sprintf(`daemon off;
user root;
worker_processes auto;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  upstream main {
%[4]s    keepalive 256;
    keepalive_requests 1000000000;
  }
  server {
    listen %[1]s:80;
    listen %[1]s:443 ssl http2;
    ssl_certificate %[2]s;
    ssl_certificate_key %[3]s;
    location / {
      proxy_pass http://main;
      proxy_http_version 1.1;
      proxy_buffers 8 16k;
      proxy_max_temp_file_size 0;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
`, vip, cert, key, s.servers("    server %s;\n")))
	s.start(exec.Command("nginx", "-e", "stderr", "-p", filepath.Dir(config), "-c", config))
	return s
}

func caddyHTTP(b *bench, caddy string) *site {
	b.Helper()
	s := newSite(b)
	cert, key, _ := s.certificate()
	s.takeAddress()
	config := s.write("Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	persist_config off
	log {
		level ERROR
	}
}
(proxy) {
	reverse_proxy%[3]s {
		lb_policy round_robin
		transport http {
			keepalive_idle_conns_per_host 256
		}
	}
}
http://:80 {
	import proxy
}
https://:443 {
	tls %[1]s %[2]s
	import proxy
}
`, cert, key, s.servers(" %s")))
	cmd := exec.Command(caddy, "run", "--config", config, "--adapter", "caddyfile")
	dir := filepath.Dir(config)
	cmd.Env = append(cmd.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	s.start(cmd)
	return s
}
