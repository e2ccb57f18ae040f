package admin

import (
	"crypto/tls"
	"crypto/x509"
	"net"
)

// UseTLS says which certificate is shown from now on, and whose certificates
// clients must have, those with open connections, too.
func (s *Server) UseTLS(own *tls.Certificate, clients *x509.CertPool) {
	conf := &tls.Config{
		Certificates: []tls.Certificate{*own}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		// Who resumes a session would go by what was trusted when it began.
		SessionTicketsDisabled: true,
	}
	s.rule(func(r *rules) { r.tls = conf })
}

// Secure returns what accepts from l with mutual TLS 1.3, for [Server.Serve]. Until
// UseTLS is called nobody gets through.
func (s *Server) Secure(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.now().tls, nil },
	})
}
