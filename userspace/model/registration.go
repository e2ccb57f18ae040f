package model

import (
	"net/netip"
	"time"
)

// A Registration says where backends may register themselves, and who may.
type Registration struct {
	// Listen is "address:port", of loopback where there is no certificate, or
	// ":port" of all addresses.
	Listen string
	// Cert and Key are files in PEM; both are empty without TLS.
	Cert, Key string
	Tokens    []RegistrationToken
}

// A RegistrationToken lets whoever has it be a backend of a pool.
type RegistrationToken struct {
	Token string // secret
	// Vault is the secret, as mount/path, that has the token in place of Token.
	Vault string
	// Pool is a pool, or a service that lists backends itself.
	Pool string
	// Networks are where the backends must be. None is anywhere.
	Networks []netip.Prefix
	// MaxTTL is the longest time for which a backend may be silent.
	MaxTTL time.Duration
}
