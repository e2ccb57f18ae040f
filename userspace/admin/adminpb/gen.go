// Package adminpb is the admin API in messages, generated from admin.proto, which
// describes them. Package adminpbconnect has the service.
package adminpb

//go:generate ../../../scripts/protoc.sh userspace/admin/adminpb/admin.proto
