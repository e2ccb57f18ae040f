package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

// codes are what errors mean to a caller.
var codes = []struct {
	err  error
	code connect.Code
}{
	{control.ErrConflict, connect.CodeAborted},
	{control.ErrNotFound, connect.CodeNotFound},
	{control.ErrExists, connect.CodeAlreadyExists},
	{control.ErrUnhealthy, connect.CodeFailedPrecondition},
	{control.ErrUnavailable, connect.CodeUnavailable},
	{control.ErrInvalid, connect.CodeInvalidArgument},
	{ErrRequest, connect.CodeInvalidArgument},
	{control.ErrRefused, connect.CodeFailedPrecondition},
	{ErrNoXDP, connect.CodeFailedPrecondition},
	{context.Canceled, connect.CodeCanceled},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
}

// change carries out edits in the name of the caller.
func (s *service) change(ctx context.Context, expect uint64, force bool, edits ...control.Edit) (*adminpb.Revision, error) {
	r := requestOf(ctx, expect, force)
	r.Edits = edits
	made, err := s.server.Plane.Change(ctx, r)
	return s.revision(&made, err)
}

// requestOf returns a request in the name of the caller.
func requestOf(ctx context.Context, expect uint64, force bool) control.Request {
	c := callOf(ctx)
	return control.Request{Who: c.who.String(), Remote: c.remote(), Expect: expect, Force: force}
}

// revision returns what was made, or why not.
func (s *service) revision(r *control.Revision, err error) (*adminpb.Revision, error) {
	m := &adminpb.Revision{}
	if err == nil {
		err = adminpb.Fill(m, r)
	}
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return m, nil
}

// request returns a change as the caller has put it together.
func request(ctx context.Context, r *adminpb.ChangeRequest) (control.Request, error) {
	c := requestOf(ctx, r.GetExpect(), r.GetForce())
	for i, e := range r.GetEdits() {
		op := control.Op(e.GetOp())
		if !slices.Contains(control.Ops, op) {
			return c, fmt.Errorf("%w: edits[%d].op is %q: use one of %s", ErrRequest, i, op, opNames())
		}
		c.Edits = append(c.Edits, control.Edit{
			Op: op, Service: e.GetService(), Pool: e.GetPool(), Match: e.GetMatch(), Backend: e.GetBackend(), Backends: e.GetBackends(),
			Weight: weight(e.Weight), Spec: e.GetSpec(), New: e.GetNew(),
		})
	}
	if len(c.Edits) == 0 {
		return c, fmt.Errorf("%w: edits is empty: give at least one", ErrRequest)
	}
	return c, nil
}

func opNames() string {
	names := make([]string, len(control.Ops))
	for i, op := range control.Ops {
		names[i] = string(op)
	}
	return strings.Join(names, ", ")
}

// weight returns a weight for an edit, nil for none; the configuration says which are
// allowed.
func weight(n *uint32) *int {
	if n == nil {
		return nil
	}
	w := int(*n)
	return &w
}

func (s *service) Change(ctx context.Context, r *adminpb.ChangeRequest) (*adminpb.Revision, error) {
	c, err := request(ctx, r)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	made, err := s.server.Plane.Change(ctx, c)
	return s.revision(&made, err)
}

func (s *service) Plan(ctx context.Context, r *adminpb.ChangeRequest) (*adminpb.PlanResponse, error) {
	c, err := request(ctx, r)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	difference, err := s.server.Plane.Plan(ctx, c)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return &adminpb.PlanResponse{Difference: difference}, nil
}

func (s *service) Apply(ctx context.Context, r *adminpb.ApplyRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), r.GetForce(), control.Edit{Op: control.OpApply, Spec: r.GetConfiguration()})
}

func (s *service) Rollback(ctx context.Context, r *adminpb.RollbackRequest) (*adminpb.Revision, error) {
	made, err := s.server.Plane.Rollback(ctx, r.GetRevision(), requestOf(ctx, r.GetExpect(), false))
	return s.revision(&made, err)
}

func (s *service) AddService(ctx context.Context, r *adminpb.AddServiceRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), r.GetForce(),
		control.Edit{Op: control.OpPutService, Service: r.GetService(), Spec: r.GetSpec(), New: true})
}

func (s *service) RemoveService(ctx context.Context, r *adminpb.RemoveServiceRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), false, control.Edit{Op: control.OpRemoveService, Service: r.GetService()})
}

func (s *service) AddPool(ctx context.Context, r *adminpb.AddPoolRequest) (*adminpb.Revision, error) {
	spec, err := poolSpec(r)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	edits := []control.Edit{{Op: control.OpPutPool, Pool: r.GetPool(), Spec: spec, New: true}}
	if r.GetPattern() != "" {
		of, err := s.routed(ctx, r.GetService())
		if err != nil {
			return nil, s.server.statusOf(err)
		}
		edits = append(edits, control.Edit{Op: control.OpPutRoute, Service: of, Match: r.GetPattern(), Pool: r.GetPool(), New: true})
	}
	return s.change(ctx, r.GetExpect(), r.GetForce(), edits...)
}

func (s *service) RemovePool(ctx context.Context, r *adminpb.RemovePoolRequest) (*adminpb.Revision, error) {
	var edits []control.Edit
	if r.GetPattern() != "" {
		of, err := s.routed(ctx, r.GetService())
		if err != nil {
			return nil, s.server.statusOf(err)
		}
		edits = append(edits, control.Edit{Op: control.OpRemoveRoute, Service: of, Match: r.GetPattern()})
	}
	return s.change(ctx, r.GetExpect(), false, append(edits, control.Edit{Op: control.OpRemovePool, Pool: r.GetPool()})...)
}

// poolSpec returns the configuration of a pool that is to be added.
func poolSpec(r *adminpb.AddPoolRequest) (string, error) {
	if len(r.GetBackends()) == 0 {
		if r.GetSpec() == "" {
			return "", fmt.Errorf("%w: a pool has backends: list them in backends, or in spec as the configuration does", ErrRequest)
		}
		return r.GetSpec(), nil
	}
	if r.GetSpec() != "" {
		return "", fmt.Errorf("%w: backends and spec exclude each other: list the backends in spec", ErrRequest)
	}
	var pool struct {
		Backends []map[string]string `json:"backends"`
	}
	for _, b := range r.GetBackends() {
		key := "address"
		if strings.Contains(b, "://") {
			key = "url"
		}
		pool.Backends = append(pool.Backends, map[string]string{key: b})
	}
	spec, err := json.Marshal(pool)
	return string(spec), err
}

// routed returns the service that routes are of: the one that is named, or the only
// one that there is.
func (s *service) routed(ctx context.Context, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	var all []string
	for _, x := range s.view(ctx).Services {
		if x.Forward == model.ForwardHTTP {
			all = append(all, x.Name)
		}
	}
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return "", fmt.Errorf("%w: there is no HTTP service that could have the pattern", ErrRequest)
	}
	return "", fmt.Errorf("%w: name the HTTP service that the pattern is for: %s", ErrRequest, strings.Join(all, ", "))
}

func (s *service) AddBackend(ctx context.Context, r *adminpb.AddBackendRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), r.GetForce(),
		control.Edit{Op: control.OpAddBackend, Pool: r.GetPool(), Backend: r.GetBackend(), Weight: weight(r.Weight), Spec: r.GetSpec()})
}

func (s *service) RemoveBackend(ctx context.Context, r *adminpb.RemoveBackendRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), false, control.Edit{Op: control.OpRemoveBackend, Pool: r.GetPool(), Backend: r.GetBackend()})
}

func (s *service) SetWeight(ctx context.Context, r *adminpb.SetWeightRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), false,
		control.Edit{Op: control.OpSetWeight, Pool: r.GetPool(), Backend: r.GetBackend(), Weight: weight(r.Weight)})
}

func (s *service) DrainBackend(ctx context.Context, r *adminpb.DrainBackendRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), false, control.Edit{Op: control.OpDrain, Pool: r.GetPool(), Backend: r.GetBackend()})
}

func (s *service) UndrainBackend(ctx context.Context, r *adminpb.UndrainBackendRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), false, control.Edit{Op: control.OpUndrain, Pool: r.GetPool(), Backend: r.GetBackend()})
}

func (s *service) SetBackends(ctx context.Context, r *adminpb.SetBackendsRequest) (*adminpb.Revision, error) {
	return s.change(ctx, r.GetExpect(), r.GetForce(), control.Edit{Op: control.OpSetBackends, Pool: r.GetPool(), Backends: r.GetBackends()})
}
