package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"fairlead/userspace/admin/adminpb/adminpbconnect"
	"fairlead/userspace/control"
)

// roles are what each method asks for, by its whole path. What is not in it is
// refused.
var roles = map[string]Role{
	adminpbconnect.AdminGetStatusProcedure:    RoleRead,
	adminpbconnect.AdminListServicesProcedure: RoleRead,
	adminpbconnect.AdminListPoolsProcedure:    RoleRead,
	adminpbconnect.AdminGetHealthProcedure:    RoleRead,
	adminpbconnect.AdminStreamFlowsProcedure:  RoleRead,
	adminpbconnect.AdminGetStatsProcedure:     RoleRead,
	adminpbconnect.AdminExplainProcedure:      RoleRead,
	adminpbconnect.AdminWatchProcedure:        RoleRead,
	adminpbconnect.AdminListHistoryProcedure:  RoleRead,

	adminpbconnect.AdminExportProcedure:         RoleWrite, // it may have secrets
	adminpbconnect.AdminPlanProcedure:           RoleWrite, // it has the agent read files that the caller names
	adminpbconnect.AdminChangeProcedure:         RoleWrite,
	adminpbconnect.AdminApplyProcedure:          RoleWrite,
	adminpbconnect.AdminRollbackProcedure:       RoleWrite,
	adminpbconnect.AdminAddServiceProcedure:     RoleWrite,
	adminpbconnect.AdminRemoveServiceProcedure:  RoleWrite,
	adminpbconnect.AdminAddPoolProcedure:        RoleWrite,
	adminpbconnect.AdminRemovePoolProcedure:     RoleWrite,
	adminpbconnect.AdminAddBackendProcedure:     RoleWrite,
	adminpbconnect.AdminRemoveBackendProcedure:  RoleWrite,
	adminpbconnect.AdminSetWeightProcedure:      RoleWrite,
	adminpbconnect.AdminDrainBackendProcedure:   RoleWrite,
	adminpbconnect.AdminUndrainBackendProcedure: RoleWrite,
	adminpbconnect.AdminSetBackendsProcedure:    RoleWrite,
	adminpbconnect.AdminKillFlowsProcedure:      RoleWrite,

	"/grpc.health.v1.Health/Check":                                   RoleRead,
	"/grpc.health.v1.Health/Watch":                                   RoleRead,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      RoleRead,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": RoleRead,
}

// streams are the methods that go on: with true those whose callers go on as well, and
// have as long for all that they ask as others have for one question.
var streams = map[string]bool{
	adminpbconnect.AdminStreamFlowsProcedure:                         false,
	adminpbconnect.AdminWatchProcedure:                               false,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      true,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": true,
}

// A gate lets calls through to what serves them.
type gate struct {
	server   *Server
	ending   context.Context
	services map[string]http.Handler // by what their paths begin with
	errors   *connect.ErrorWriter
}

// handler returns what answers requests; streams end when ending is done.
func (s *Server) handler(ending context.Context) *gate {
	options := []connect.HandlerOption{connect.WithReadMaxBytes(maxMessage), connect.WithSendMaxBytes(maxMessage), strict()}
	g := &gate{server: s, ending: ending, services: map[string]http.Handler{}, errors: connect.NewErrorWriter(options...)}
	add := func(prefix string, h http.Handler) { g.services[prefix] = h }
	add(adminpbconnect.NewAdminHandler(&service{server: s}, options...))
	add(grpchealth.NewHandler(grpchealth.NewStaticChecker(adminpbconnect.AdminName), options...))
	reflector := grpcreflect.NewStaticReflector(adminpbconnect.AdminName, grpchealth.HealthV1ServiceName)
	options = append(options, connect.WithInterceptors(explained{}))
	add(grpcreflect.NewHandlerV1(reflector, options...))
	add(grpcreflect.NewHandlerV1Alpha(reflector, options...))
	return g
}

// ServeHTTP goes by the path as it was sent: what only means a method, such as one
// with another slash or an escape, is none.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.RequestURI
	needs, known := roles[path]
	who := callerOf(r.Context(), r.TLS)
	if has, _, err := g.server.now().judge(who); has == RoleNone || known && has < needs {
		if err != nil { // the client may have another certificate by now
			w.Header().Set("Connection", "close")
		}
		g.refuse(w, r, connect.CodePermissionDenied, "%w", g.denied(who, path, err))
		return
	}
	if !known {
		g.refuse(w, r, connect.CodeUnimplemented, "no such method")
		return
	}
	if r.ContentLength > maxMessage {
		g.refuse(w, r, connect.CodeResourceExhausted, "the message has %d bytes, and %d are allowed: let the agent read a configuration of this size from its own file", r.ContentLength, maxMessage)
		return
	}
	if asked, ok := streams[path]; ok {
		interrupt := func() {}
		if asked {
			interrupt = func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) } // of one that is not over
		}
		ctx, end := g.stream(r.Context(), who, path, interrupt)
		defer end()
		r = r.WithContext(ctx)
	}
	g.serve(w, r, who)
}

// stream returns what ends with the agent, and once the caller may not go on. Then it
// calls interrupt. The caller of stream must call end, after which interrupt is not called.
func (g *gate) stream(ctx context.Context, who caller, path string, interrupt func()) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var ends sync.WaitGroup
	ends.Go(func() {
		select {
		case <-ctx.Done():
		case <-g.ending.Done():
			cancel(errEnding)
			interrupt()
		}
	})
	ends.Go(func() {
		g.server.watch(ctx, who, roles[path], func(err error) {
			cancel(connect.NewError(connect.CodePermissionDenied, g.denied(who, path, err)))
			interrupt()
		})
	})
	return ctx, func() {
		cancel(nil)
		ends.Wait()
	}
}

// An explained stream that was ended has the reason for its error.
type explained struct{}

func (explained) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc { return next }

func (explained) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (explained) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		err := next(ctx, conn)
		if why := new(connect.Error); errors.As(context.Cause(ctx), &why) {
			return why
		}
		return err
	}
}

// denied logs and returns that a caller may not call a method, because of an error unless
// that is nil.
func (g *gate) denied(who caller, path string, err error) error {
	why := fmt.Errorf("%s may not call %s", who, path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		why = fmt.Errorf("%s is taken no more: %w", who, err)
	}
	g.server.Log.Warn("call refused", "caller", who.String(), "method", path, "err", why)
	return why
}

// refuse answers in the protocol of the request, as far as it has one.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request, code connect.Code, format string, args ...any) {
	err := connect.NewError(code, fmt.Errorf(format, args...))
	if g.errors.IsSupported(r) {
		_ = g.errors.Write(w, r, err) // who does not wait for it misses it
		return
	}
	status := http.StatusForbidden
	if code == connect.CodeUnimplemented {
		status = http.StatusNotFound
	}
	http.Error(w, err.Message(), status)
}

type callKey struct{}

// A call is one that runs.
type call struct {
	who     caller
	control *http.ResponseController
}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// remote reports whether the caller is not known to be on this host.
func (c *call) remote() bool { return c.who.peer == nil }

// statusOf returns err as what a caller gets.
func (s *Server) statusOf(err error) error {
	if err == nil {
		return nil
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return already
	}
	if errors.Is(err, control.ErrUnhealthy) {
		err = fmt.Errorf("%w; force takes it nevertheless", err)
	}
	for _, x := range codes {
		if errors.Is(err, x.err) {
			return connect.NewError(x.code, err)
		}
	}
	s.Log.Error("call failed", "err", err)
	return connect.NewError(connect.CodeInternal, err)
}
