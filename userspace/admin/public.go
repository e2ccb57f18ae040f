package admin

import (
	"context"
	"net/http"
	"strings"

	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

// Path is what the paths of all methods of the API begin with.
const Path = "/" + adminpbconnect.AdminName + "/"

// public are the methods for whoever asks. They show no client's address, no
// configuration, and nothing of files that a caller names.
var public = map[string]bool{
	adminpbconnect.AdminGetStatusProcedure:    true,
	adminpbconnect.AdminListServicesProcedure: true,
	adminpbconnect.AdminListPoolsProcedure:    true,
	adminpbconnect.AdminGetHealthProcedure:    true,
	adminpbconnect.AdminGetStatsProcedure:     true,
	adminpbconnect.AdminExplainProcedure:      true,
	adminpbconnect.AdminListHistoryProcedure:  true,
}

// Public returns a handler of methods that only look, for whoever asks, whose
// connections are somebody else's.
func (s *Server) Public(ending context.Context) http.Handler {
	g := s.handler(ending)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !public[r.RequestURI] {
			http.Error(w, "no such method", http.StatusNotFound)
			return
		}
		g.serve(w, r, caller{})
	})
}

// serve has the service of a method answer a caller who may call it.
func (g *gate) serve(w http.ResponseWriter, r *http.Request, who caller) {
	path := r.RequestURI
	ctx := context.WithValue(r.Context(), callKey{}, &call{who: who, control: http.NewResponseController(w)})
	g.services[path[:strings.LastIndexByte(path, '/')+1]].ServeHTTP(w, r.WithContext(ctx))
}
