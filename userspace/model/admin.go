package model

// An Admin says who may ask and change a running agent, and where.
type Admin struct {
	// Write may do everything, as root and the agent's own user may; Read may look.
	Write, Read Identities
	// Listen is where TCP is spoken too, "address:port" or ":port" of all addresses;
	// "" is nowhere. The other three are paths, and are set where Listen is.
	Listen              string
	Cert, Key, ClientCA string
}

// Identities are names of callers.
type Identities struct {
	// Users and Groups are those of this host, by name or number, on the unix socket.
	Users, Groups []string
	// Certificates are a subject, such as "CN=ops,O=Example", or one of the names
	// (DNS, URI, e-mail) that a client's certificate has.
	Certificates []string
}
