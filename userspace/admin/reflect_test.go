package admin

import (
	"net"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

// TestReflectionTellsWhatThereIs asks as tools do that know nothing of the API: which
// services there are, and in which file the one of them is described.
func TestReflectionTellsWhatThereIs(t *testing.T) {
	w := serve(t)
	transport := over(t, true, func() (net.Conn, error) { return net.Dial("unix", w.socket) })
	s := grpcreflect.NewClient(transport, "http://fairlead", connect.WithGRPC()).NewStream(t.Context())
	defer s.Close()
	names, err := s.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]protoreflect.FullName{adminpbconnect.AdminName, "grpc.health.v1.Health"}, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	files, err := s.FileContainingSymbol(adminpbconnect.AdminName)
	if err != nil {
		t.Fatal(err)
	}
	want := adminpb.File_userspace_admin_adminpb_admin_proto.Path()
	for _, f := range files {
		if f.GetName() == want {
			return
		}
	}
	t.Errorf("%d files, and %s is none of them", len(files), want)
}
