package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
	"fairlead/userspace/control"
)

func number(n int) *int { return &n }

// A callRow is a call that changes something, and what it means.
type callRow struct {
	name string
	call func(adminpbconnect.AdminClient, context.Context) (*adminpb.Revision, error)
	want control.Request
}

// wantEdits has calls ask for what they mean.
func wantEdits(t *testing.T, rows []callRow) {
	t.Helper()
	w := serve(t)
	c := w.client(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			made, err := row.call(c, t.Context())
			if err != nil || made.GetRevision() != 7 || made.GetWho() != "somebody" {
				t.Errorf("%v, %v", made, err)
			}
			row.want.Who = callerHere(t)
			if diff := cmp.Diff([]control.Request{row.want}, w.plane.asked()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func edits(all ...control.Edit) control.Request { return control.Request{Edits: all} }

func TestChangesOfConfigurations(t *testing.T) {
	type client = adminpbconnect.AdminClient
	wantEdits(t, []callRow{
		{"change", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.Change(ctx, &adminpb.ChangeRequest{Expect: 3, Force: true, Edits: []*adminpb.Edit{
				{Op: "put-route", Service: "site", Match: "/a", Pool: "api", Spec: "x: y", New: true}, {Op: "set-weight", Pool: "p", Backend: "b", Weight: new(uint32)},
				{Op: "set-backends", Pool: "p", Backends: []string{"a", "b"}},
			}})
		}, control.Request{Expect: 3, Force: true, Edits: []control.Edit{
			{Op: control.OpPutRoute, Service: "site", Match: "/a", Pool: "api", Spec: "x: y", New: true}, {Op: control.OpSetWeight, Pool: "p", Backend: "b", Weight: number(0)},
			{Op: control.OpSetBackends, Pool: "p", Backends: []string{"a", "b"}},
		}}},
		{"apply", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.Apply(ctx, &adminpb.ApplyRequest{Configuration: "services: []", Expect: 4, Force: true})
		}, control.Request{Expect: 4, Force: true, Edits: []control.Edit{{Op: control.OpApply, Spec: "services: []"}}}},
		{"rollback", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.Rollback(ctx, &adminpb.RollbackRequest{Revision: 2, Expect: 4})
		}, control.Request{Expect: 4}},
		{"add service", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.AddService(ctx, &adminpb.AddServiceRequest{Service: "s", Spec: "{}", Expect: 1, Force: true})
		}, control.Request{Expect: 1, Force: true, Edits: []control.Edit{{Op: control.OpPutService, Service: "s", Spec: "{}", New: true}}}},
		{"remove service", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.RemoveService(ctx, &adminpb.RemoveServiceRequest{Service: "s", Expect: 1})
		}, control.Request{Expect: 1, Edits: []control.Edit{{Op: control.OpRemoveService, Service: "s"}}}},
	})
}

func TestChangesOfPools(t *testing.T) {
	type client = adminpbconnect.AdminClient
	wantEdits(t, []callRow{
		{"add pool", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "p", Backends: []string{"10.0.0.1:80", "http://10.0.0.2/x"}, Force: true})
		}, control.Request{Force: true, Edits: []control.Edit{
			{Op: control.OpPutPool, Pool: "p", Spec: `{"backends":[{"address":"10.0.0.1:80"},{"url":"http://10.0.0.2/x"}]}`, New: true},
		}}},
		{"add pool by pattern", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "p", Spec: "{}", Pattern: "/a/", Service: "site", Expect: 5})
		}, control.Request{Expect: 5, Edits: []control.Edit{
			{Op: control.OpPutPool, Pool: "p", Spec: "{}", New: true}, {Op: control.OpPutRoute, Service: "site", Match: "/a/", Pool: "p", New: true},
		}}},
		{"remove pool", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.RemovePool(ctx, &adminpb.RemovePoolRequest{Pool: "p", Pattern: "/a/", Service: "site"})
		}, edits(control.Edit{Op: control.OpRemoveRoute, Service: "site", Match: "/a/"}, control.Edit{Op: control.OpRemovePool, Pool: "p"})},
	})
}

func TestChangesOfBackends(t *testing.T) {
	type client = adminpbconnect.AdminClient
	nine := uint32(9)
	wantEdits(t, []callRow{
		{"add backend", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.AddBackend(ctx, &adminpb.AddBackendRequest{Pool: "p", Backend: "b", Weight: &nine, Spec: "zone: x", Force: true})
		}, control.Request{Force: true, Edits: []control.Edit{{Op: control.OpAddBackend, Pool: "p", Backend: "b", Weight: number(9), Spec: "zone: x"}}}},
		{"remove backend", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.RemoveBackend(ctx, &adminpb.RemoveBackendRequest{Pool: "p", Backend: "b", Expect: 8})
		}, control.Request{Expect: 8, Edits: []control.Edit{{Op: control.OpRemoveBackend, Pool: "p", Backend: "b"}}}},
		{"set weight", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.SetWeight(ctx, &adminpb.SetWeightRequest{Pool: "p", Backend: "b", Weight: &nine})
		}, edits(control.Edit{Op: control.OpSetWeight, Pool: "p", Backend: "b", Weight: number(9)})},
		{"set no weight, which is not 0", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.SetWeight(ctx, &adminpb.SetWeightRequest{Pool: "p", Backend: "b"})
		}, edits(control.Edit{Op: control.OpSetWeight, Pool: "p", Backend: "b"})},
		{"drain", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.DrainBackend(ctx, &adminpb.DrainBackendRequest{Pool: "p", Backend: "b", Expect: 2})
		}, control.Request{Expect: 2, Edits: []control.Edit{{Op: control.OpDrain, Pool: "p", Backend: "b"}}}},
		{"undrain", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.UndrainBackend(ctx, &adminpb.UndrainBackendRequest{Pool: "p", Backend: "b", Expect: 2})
		}, control.Request{Expect: 2, Edits: []control.Edit{{Op: control.OpUndrain, Pool: "p", Backend: "b"}}}},
		{"set backends", func(c client, ctx context.Context) (*adminpb.Revision, error) {
			return c.SetBackends(ctx, &adminpb.SetBackendsRequest{Pool: "p", Backends: []string{"a"}, Expect: 2, Force: true})
		}, control.Request{Expect: 2, Force: true, Edits: []control.Edit{{Op: control.OpSetBackends, Pool: "p", Backends: []string{"a"}}}}},
	})
}

func TestErrorsHaveTheirCodes(t *testing.T) {
	w := serve(t)
	c := w.client(t)
	for _, row := range []struct {
		err  error
		want connect.Code
	}{
		{control.ErrConflict, connect.CodeAborted},
		{control.ErrNotFound, connect.CodeNotFound},
		{control.ErrExists, connect.CodeAlreadyExists},
		{control.ErrUnhealthy, connect.CodeFailedPrecondition},
		{control.ErrUnavailable, connect.CodeUnavailable},
		{control.ErrInvalid, connect.CodeInvalidArgument},
		{errors.Join(errors.New("line 3"), control.ErrInvalid), connect.CodeInvalidArgument},
		{control.ErrRefused, connect.CodeFailedPrecondition},
		{errors.New("disk is full"), connect.CodeInternal},
	} {
		w.plane.err = fmt.Errorf("change: %w: because", row.err)
		_, err := c.Apply(t.Context(), &adminpb.ApplyRequest{})
		var got *connect.Error
		text := w.plane.err.Error()
		if errors.Is(row.err, control.ErrUnhealthy) {
			text += "; force takes it nevertheless"
		}
		if !errors.As(err, &got) || got.Code() != row.want || got.Message() != text {
			t.Errorf("%v: %v, want %s", row.err, err, row.want)
		}
	}
	w.plane.err, w.datapath.err = nil, ErrNoXDP
	if _, err := c.Explain(t.Context(), &adminpb.ExplainRequest{}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("explain without XDP: %v", err)
	}
}

func TestAMessageThatIsTooLargeIsToldWhatToDo(t *testing.T) {
	w := serve(t)
	_, err := w.client(t).Apply(t.Context(), &adminpb.ApplyRequest{Configuration: strings.Repeat("#", maxMessage)})
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "from its own file") || len(w.plane.asked()) != 0 {
		t.Error(err)
	}
}

func TestWrongRequestsChangeNothing(t *testing.T) {
	w := serve(t)
	c, ctx := w.client(t), t.Context()
	for _, row := range []struct {
		want string
		call func() error
	}{
		{"edits is empty", func() error { _, err := c.Change(ctx, &adminpb.ChangeRequest{}); return err }},
		{`edits[0].op is "grow": use one of apply, put-service`, func() error {
			_, err := c.Plan(ctx, &adminpb.ChangeRequest{Edits: []*adminpb.Edit{{Op: "grow"}}})
			return err
		}},
		{"a pool has backends", func() error { _, err := c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "p"}); return err }},
		{"exclude each other", func() error {
			_, err := c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "p", Spec: "x", Backends: []string{"a"}})
			return err
		}},
		{"name the HTTP service that the pattern is for: site, shop", func() error {
			_, err := c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "p", Spec: "x", Pattern: "/"})
			return err
		}},
		{"name the HTTP service", func() error {
			_, err := c.RemovePool(ctx, &adminpb.RemovePoolRequest{Pool: "p", Pattern: "/"})
			return err
		}},
		{"filter is empty", func() error { _, err := c.KillFlows(ctx, &adminpb.KillFlowsRequest{}); return err }},
		{`filter.client is "x": use an address`, func() error {
			_, err := c.KillFlows(ctx, &adminpb.KillFlowsRequest{Filter: &adminpb.FlowFilter{Client: "x"}})
			return err
		}},
		{`filter.protocol is "icmp": use tcp or udp`, func() error {
			_, err := c.KillFlows(ctx, &adminpb.KillFlowsRequest{Filter: &adminpb.FlowFilter{Protocol: "icmp"}})
			return err
		}},
		{`filter.path is "xdp": use kernel or proxy`, func() error {
			_, err := c.KillFlows(ctx, &adminpb.KillFlowsRequest{Filter: &adminpb.FlowFilter{Path: "xdp"}})
			return err
		}},
	} {
		err := row.call()
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%v, want %q", err, row.want)
		}
	}
	if asked := w.plane.asked(); len(asked)+len(w.datapath.asked) != 0 {
		t.Errorf("asked %+v and %+v", asked, w.datapath.asked)
	}
	// One HTTP service needs no name.
	w.plane.set(func() { v := sample(); v.Services = v.Services[:2]; w.plane.view = v })
	if _, err := c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "p", Spec: "x", Pattern: "/"}); err != nil || w.plane.asked()[0].Edits[1].Service != "site" {
		t.Errorf("%v, want the pattern to be of site", err)
	}
}
