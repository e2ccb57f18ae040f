package model

import "time"

// TLS says how a service shows who it is. Files are named by absolute paths.
type TLS struct {
	// Certificates are chosen by the name that a client asks for. The first is
	// for all names that none of them has, and for clients that name none. There
	// may be none if there is ACME.
	Certificates []Certificate
	// ACME are names whose certificates come from [State.ACME].
	ACME []string
	// MinVersion is one of [crypto/tls].
	MinVersion uint16
	// ClientCA names the file of the authorities of clients' certificates.
	ClientCA   string
	ClientAuth ClientAuth
}

// A Certificate names the files of a chain of certificates and of its key, or the
// secret of [State.Vault] that has both, as mount/path.
type Certificate struct{ Cert, Key, Vault string }

// ClientAuth says whether clients have to show a certificate.
type ClientAuth string

// The ways to ask clients. Those that have one must have one of [TLS.ClientCA].
const (
	ClientNone     ClientAuth = ""
	ClientOptional ClientAuth = "optional"
	ClientRequired ClientAuth = "required"
)

// BackendTLS says how backends show who they are. The zero value is a certificate
// for the address, by an authority that this host trusts.
type BackendTLS struct {
	// CA names the file of the authorities that count instead of the host's.
	CA string
	// ServerName is asked for, and what the certificate must be for, instead of
	// the address.
	ServerName string
	// Certificate is what backends are shown if they ask.
	Certificate Certificate
	// SkipVerify accepts any certificate.
	SkipVerify bool
}

// A NameRoute says which pool serves the connections to some names.
type NameRoute struct {
	// Name is in lower case: example.com, *.example.com for all names below it,
	// or * for all others and for clients that name none.
	Name, Pool string
}

// ACME says who gives certificates to services that only name what they are for.
type ACME struct {
	Directory string // URL
	Email     string // may be empty
	// CA names the file of the authorities that the directory's own certificate
	// may be by; "" are those of this host.
	CA string
	// Storage is the directory of keys and certificates.
	Storage    string
	Challenges []Challenge
}

// A Challenge is a way to show the authority whose a name is.
type Challenge string

// The challenges.
const (
	ChallengeHTTP Challenge = "http-01"     // over a service on port 80
	ChallengeALPN Challenge = "tls-alpn-01" // over a service with TLS on port 443
)

// Vault says where secrets are.
type Vault struct {
	Address   string // URL, without a slash at its end
	TokenFile string // "": VAULT_TOKEN in the environment
	CA        string // file of the authorities of the server; "" are those of this host
	Namespace string
	Refresh   time.Duration // how often secrets are read again
}
