// Package adminpb is the admin API in messages, generated from admin.proto, which
// describes them. Package adminpbconnect has the service.
package adminpb

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

//go:generate ../../../scripts/protoc.sh userspace/admin/adminpb/admin.proto

// Fill sets a message to what a value is in JSON, whose names are those of the
// message's fields. What the message has no field for is left out.
func Fill(m proto.Message, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
	}
	if err != nil {
		return fmt.Errorf("fill %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
