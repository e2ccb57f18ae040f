package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

// askPublic calls a method as a browser does, and returns the status and the answer.
func askPublic(t *testing.T, h http.Handler, method, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, method, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestWhoeverAsksGetsNoMoreThanThePageNeeds: methods that look, and the newest
// revisions.
func TestWhoeverAsksGetsNoMoreThanThePageNeeds(t *testing.T) {
	p := newPlane()
	p.history = revisions(1, 300)
	s := &Server{Plane: p, Datapath: &datapath{}, Log: slog.New(slog.DiscardHandler)}
	h := s.Public(context.Background())
	for method := range roles {
		want := http.StatusNotFound
		if public[method] {
			want = http.StatusOK
		}
		if status, body := askPublic(t, h, method, "{}"); status != want {
			t.Errorf("%s: status %d, want %d: %s", method, status, want, body)
		}
	}
	for _, row := range []struct {
		body string
		want int
	}{{"{}", 20}, {`{"limit": 1000}`, 20}, {`{"limit": 10}`, 10}} {
		status, body := askPublic(t, h, adminpbconnect.AdminListHistoryProcedure, row.body)
		var got struct{ Revisions []struct{ Revision string } }
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK || len(got.Revisions) != row.want || got.Revisions[0].Revision != "300" {
			t.Errorf("%s: status %d, %v, %d revisions, want %d", row.body, status, err, len(got.Revisions), row.want)
		}
	}
	if status, body := askPublic(t, h, adminpbconnect.AdminListHistoryProcedure, `{"before": 100}`); status != http.StatusBadRequest || !strings.Contains(body, "leave out before") {
		t.Errorf("old ones: status %d, %s", status, body)
	}
}
