package admin

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// post calls a method with JSON, as the simplest client there is, and returns the
// status and the body of the answer.
func (w *world) post(t *testing.T, method, contentType, body string) (int, string) {
	t.Helper()
	c := over(t, false, func() (net.Conn, error) { return net.Dial("unix", w.socket) })
	answer, err := c.Post("http://fairlead"+Path+method, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestJSONByPost(t *testing.T) {
	w := serve(t)
	if code, body := w.post(t, "GetStats", "application/json", "{}"); code != http.StatusOK || body != `{"packets":"1099511627776"}` {
		t.Errorf("%d, %s", code, body)
	}
}

func TestWordsThatJSONDoesNotKnowChangeNothing(t *testing.T) {
	w := serve(t)
	for _, row := range []struct{ method, contentType, body, want string }{
		{"SetWeight", "application/json", `{"pool": "p", "backend": "b", "weigth": 9}`, `unknown field \"weigth\"`},
		{"SetWeight", "application/json; charset=utf-8", `{"pool": "p", "backend": "b", "weight": 9, "expct": "1"}`, `unknown field \"expct\"`},
		{"Change", "application/json", `{"edits": [{"op": "drain", "pool": "p", "backnd": "b"}]}`, `unknown field \"backnd\"`},
		{"GetHealth", "application/json", `{"pol": "p"}`, `unknown field \"pol\"`},
		{"RemoveBackend", "application/json", ``, "the body is empty"},
	} {
		code, body := w.post(t, row.method, row.contentType, row.body)
		if code != http.StatusBadRequest || !strings.Contains(body, "invalid_argument") || !strings.Contains(body, row.want) || strings.Contains(body, "\u00a0") {
			t.Errorf("%s of %s: %d, %s; want %s", row.method, row.body, code, body, row.want)
		}
	}
	if asked := w.plane.asked(); len(asked) > 0 {
		t.Errorf("asked %+v", asked)
	}
}
