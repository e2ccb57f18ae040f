package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"connectrpc.com/grpchealth"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/peercred"
)

// methods are all that the server knows, and what they ask for. A method that
// comes to admin.proto must come here too.
var methods = map[string]Role{
	"/fairlead.admin.v1.Admin/GetStatus":      RoleRead,
	"/fairlead.admin.v1.Admin/ListServices":   RoleRead,
	"/fairlead.admin.v1.Admin/ListPools":      RoleRead,
	"/fairlead.admin.v1.Admin/GetHealth":      RoleRead,
	"/fairlead.admin.v1.Admin/StreamFlows":    RoleRead,
	"/fairlead.admin.v1.Admin/GetStats":       RoleRead,
	"/fairlead.admin.v1.Admin/Explain":        RoleRead,
	"/fairlead.admin.v1.Admin/Plan":           RoleWrite,
	"/fairlead.admin.v1.Admin/Watch":          RoleRead,
	"/fairlead.admin.v1.Admin/ListHistory":    RoleRead,
	"/fairlead.admin.v1.Admin/Export":         RoleWrite,
	"/fairlead.admin.v1.Admin/Change":         RoleWrite,
	"/fairlead.admin.v1.Admin/Apply":          RoleWrite,
	"/fairlead.admin.v1.Admin/Rollback":       RoleWrite,
	"/fairlead.admin.v1.Admin/AddService":     RoleWrite,
	"/fairlead.admin.v1.Admin/RemoveService":  RoleWrite,
	"/fairlead.admin.v1.Admin/AddPool":        RoleWrite,
	"/fairlead.admin.v1.Admin/RemovePool":     RoleWrite,
	"/fairlead.admin.v1.Admin/AddBackend":     RoleWrite,
	"/fairlead.admin.v1.Admin/RemoveBackend":  RoleWrite,
	"/fairlead.admin.v1.Admin/SetWeight":      RoleWrite,
	"/fairlead.admin.v1.Admin/DrainBackend":   RoleWrite,
	"/fairlead.admin.v1.Admin/UndrainBackend": RoleWrite,
	"/fairlead.admin.v1.Admin/SetBackends":    RoleWrite,
	"/fairlead.admin.v1.Admin/KillFlows":      RoleWrite,

	"/grpc.health.v1.Health/Check": RoleRead,
	"/grpc.health.v1.Health/Watch": RoleRead,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      RoleRead,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": RoleRead,
}

func TestEveryMethodHasARole(t *testing.T) {
	services := adminpb.File_userspace_admin_adminpb_admin_proto.Services()
	described := 0
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			m := services.Get(i).Methods().Get(j)
			described++
			if _, ok := methods[pathOf(m)]; !ok {
				t.Errorf("%s is in no table: say here who may call it", pathOf(m))
			}
		}
	}
	const others = 4 // health and reflection
	if len(methods) != described+others {
		t.Errorf("the table has %d methods, want %d", len(methods), described+others)
	}
	if grpchealth.HealthV1ServiceName != "grpc.health.v1.Health" {
		t.Error("health has another name")
	}
}

func pathOf(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// Codes of gRPC.
const (
	statusDenied        = "7"
	statusUnimplemented = "12"
)

// callers are those of the matrix, and what they may do.
func callers() map[string]struct {
	caller
	has Role
} {
	type row = struct {
		caller
		has Role
	}
	peer := func(uid, gid uint32, groups ...uint32) caller {
		return caller{peer: &peercred.Peer{UID: uid, GID: gid, Groups: groups}}
	}
	cert := func(c x509.Certificate) caller { return caller{cert: &c} }
	uri := &url.URL{Scheme: "spiffe", Host: "example", Path: "/ops"}
	return map[string]row{
		"root":                           {peer(0, 0), RoleWrite},
		"the agent's own user":           {peer(uint32(os.Geteuid()), 9), RoleWrite},
		"a user who may write":           {peer(1000, 1), RoleWrite},
		"a group that may write":         {peer(1001, 2000), RoleWrite},
		"a second group that may write":  {peer(1001, 1, 5, 2000), RoleWrite},
		"a user who may read":            {peer(1002, 1), RoleRead},
		"a group that may read":          {peer(1001, 1, 2001), RoleRead},
		"another user":                   {peer(1001, 1001, 1000, 1002), RoleNone},
		"group root":                     {peer(1001, 0, 0), RoleNone},
		"nobody":                         {caller{}, RoleNone},
		"a subject that may write":       {cert(x509.Certificate{Subject: pkix.Name{CommonName: "ops", Organization: []string{"Example"}}}), RoleWrite},
		"a name of DNS that may write":   {cert(x509.Certificate{DNSNames: []string{"a.example", "ops.example"}}), RoleWrite},
		"a URI that may write":           {cert(x509.Certificate{URIs: []*url.URL{uri}}), RoleWrite},
		"an e-mail that may read":        {cert(x509.Certificate{EmailAddresses: []string{"m@example"}}), RoleRead},
		"a part of a subject":            {cert(x509.Certificate{Subject: pkix.Name{CommonName: "ops"}}), RoleNone},
		"a common name as a name of DNS": {cert(x509.Certificate{Subject: pkix.Name{CommonName: "ops.example"}}), RoleNone},
		"a name in capitals":             {cert(x509.Certificate{DNSNames: []string{"OPS.example"}}), RoleNone},
		"a certificate without names":    {cert(x509.Certificate{}), RoleNone},
		"a user's number as a name":      {cert(x509.Certificate{DNSNames: []string{"1000", "root"}}), RoleNone},
	}
}

func matrixAccess() *Access {
	return &Access{
		Write: Callers{peercred.Allowed{Users: []uint32{1000}, Groups: []uint32{2000}}, []string{"CN=ops,O=Example", "ops.example", "spiffe://example/ops", ""}},
		Read:  Callers{peercred.Allowed{Users: []uint32{1002}, Groups: []uint32{2001}}, []string{"m@example", ""}},
	}
}

// messages are those of methods that ask for nothing by an empty one.
var messages = map[string]proto.Message{
	"/fairlead.admin.v1.Admin/Plan":      &adminpb.ChangeRequest{Edits: []*adminpb.Edit{{Op: "drain", Pool: "web", Backend: "b"}}},
	"/fairlead.admin.v1.Admin/Change":    &adminpb.ChangeRequest{Edits: []*adminpb.Edit{{Op: "drain", Pool: "web", Backend: "b"}}},
	"/fairlead.admin.v1.Admin/AddPool":   &adminpb.AddPoolRequest{Pool: "p", Backends: []string{"b"}},
	"/fairlead.admin.v1.Admin/KillFlows": &adminpb.KillFlowsRequest{All: true},
}

// TestWhoMayCallWhat has every identity call every method. Who may not has nobody asked for
// anything; who may has those asked who know, and one change is made if it is one.
func TestWhoMayCallWhat(t *testing.T) {
	for name, row := range callers() {
		t.Run(name, func(t *testing.T) {
			w := &world{plane: newPlane(), datapath: &datapath{}}
			w.Server = &Server{Plane: w.plane, Datapath: w.datapath, Log: discard}
			w.Use(matrixAccess())
			client := as(t, w.Server, row.caller)
			for path, needs := range methods {
				before := w.plane.used.Load() + w.datapath.used.Load()
				got := grpcStatus(t, client, path)
				may := row.has >= needs
				if may == (got == statusDenied) {
					t.Errorf("%s: status %s, may %v", path, got, may)
				}
				used := w.plane.used.Load()+w.datapath.used.Load() > before
				if want := may && strings.HasPrefix(path, Path); used != want {
					t.Errorf("%s: somebody was asked for something: %v, want %v", path, used, want)
				}
				requests, want := len(w.plane.asked())+int(w.datapath.kills.Swap(0)), 0
				if may && needs == RoleWrite && path != "/fairlead.admin.v1.Admin/Export" {
					want = 1
				}
				if requests != want {
					t.Errorf("%s: %d requests, want %d", path, requests, want)
				}
			}
		})
	}
}

// TestWhoCallsByCertificateIsElsewhere has callers ask for everything that the plane does.
func TestWhoCallsByCertificateIsElsewhere(t *testing.T) {
	for name, row := range callers() {
		if row.has != RoleWrite {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := newPlane()
			s := &Server{Plane: p, Datapath: &datapath{}, Log: discard}
			s.Use(matrixAccess())
			client := as(t, s, row.caller)
			asked := 0
			for path := range methods {
				grpcStatus(t, client, path)
				for _, r := range p.asked() {
					asked++
					if r.Remote != (row.peer == nil) || r.Who != row.String() {
						t.Errorf("%s: %+v", path, r)
					}
				}
			}
			if asked < 10 {
				t.Errorf("%d requests show nothing", asked)
			}
		})
	}
}

// as returns a client of a server whose streams end at once, which takes it for
// somebody.
func as(t *testing.T, s *Server, who caller) *http.Client {
	t.Helper()
	ended, end := context.WithCancel(t.Context())
	end()
	return from(t, s, ended, who)
}

// from is [as] where streams end when ending is done.
func from(t *testing.T, s *Server, ending context.Context, who caller) *http.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var state *tls.ConnectionState
	if who.cert != nil {
		a := newAuthority(t)
		own := a.sign(t, "", func(c *x509.Certificate) {
			c.Subject, c.DNSNames, c.EmailAddresses, c.URIs = who.cert.Subject, who.cert.DNSNames, who.cert.EmailAddresses, who.cert.URIs
		})
		s.UseTLS(own, a.pool())
		state = verified(t, own)
	}
	h := s.handler(ending)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, ConnContext: withCaller, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, who.peer))
		r.TLS = state
		h.ServeHTTP(w, r)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return over(t, true, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
}

// grpcStatus calls a method with its message.
func grpcStatus(t *testing.T, client *http.Client, path string) string {
	t.Helper()
	message, err := proto.Marshal(messages[path])
	if err != nil {
		t.Fatal(err)
	}
	message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://fairlead"+path, bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc+proto")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatal(err)
	}
	if s := answer.Header.Get("Grpc-Status"); s != "" {
		return s
	}
	return answer.Trailer.Get("Grpc-Status")
}
