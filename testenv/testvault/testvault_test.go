package testvault

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// said is what of an answer counts.
type said struct {
	Status int
	Data   struct {
		Data     map[string]any
		Metadata struct{ Version int }
		Version  int
		Keys     []string
	}
	Errors []string // what they say is another matter
}

// TestTheServerAnswersAsVaultDoes asks both the same, one question after the other.
func TestTheServerAnswersAsVaultDoes(t *testing.T) {
	fake, vault := New(t), Start(t)
	for _, q := range []struct{ method, path, body string }{
		{"GET", "secret/data/a/b", ""},
		{"POST", "secret/data/a/b", `{"options": {"cas": 0}, "data": {"x": "1"}}`},
		{"POST", "secret/data/a/b", `{"options": {"cas": 0}, "data": {"x": "2"}}`},
		{"POST", "secret/data/a/b", `{"options": {"cas": 2}, "data": {"x": "2"}}`},
		{"POST", "secret/data/a/none", `{"options": {"cas": 1}, "data": {"x": "2"}}`},
		{"POST", "secret/data/a/b", `{"options": {"cas": 1}, "data": {"x": "2"}}`},
		{"POST", "secret/data/a/b", `{"data": {"x": "3"}}`},
		{"POST", "secret/data/a/b", `{"options": {"cas": 3}}`},
		{"POST", "secret/data/null", `{"options": {"cas": 0}, "data": {"x": null}}`},
		{"GET", "secret/data/null", ""},
		{"GET", "secret/data/a/b", ""},
		{"GET", "secret/data/a/b/", ""},
		{"GET", "secret/data/a", ""},
		{"DELETE", "secret/data/a/b", ""},
		{"GET", "secret/data/a/b", ""},
		{"GET", "secret/metadata/a?list=true", ""},
		{"POST", "secret/data/a/b", `{"options": {"cas": 0}, "data": {"x": "4"}}`},
		{"POST", "secret/data/a/b", `{"options": {"cas": 3}, "data": {"x": "4"}}`},
		{"GET", "secret/data/a/b", ""},
		{"DELETE", "secret/metadata/a/b", ""},
		{"DELETE", "secret/metadata/a/b", ""},
		{"GET", "secret/data/a/b", ""},
		{"POST", "secret/data/a/b", `{"options": {"cas": 0}, "data": {"x": "5"}}`},
		{"POST", "secret/data/a/d/e", `{"options": {"cas": 0}, "data": {"x": "6"}}`},
		{"POST", "secret/data/a%20b/%C3%A9", `{"options": {"cas": 0}, "data": {"x": "7"}}`},
		{"GET", "secret/data/a%20b/%C3%A9", ""},
		{"GET", "secret/metadata/a?list=true", ""},
		{"GET", "secret/metadata/a/?list=true", ""},
		{"GET", "secret/metadata/a%20b?list=true", ""},
		{"GET", "secret/metadata/none?list=true", ""},
		{"GET", "secret/metadata/a/b?list=true", ""},
		{"GET", "secret/other/a", ""},
		{"GET", "none/data/a", ""},
		{"POST", "none/data/a", `{"options": {"cas": 0}, "data": {"x": "5"}}`},
		{"GET", "none/metadata/a?list=true", ""},
		{"DELETE", "none/metadata/a", ""},
	} {
		want := askSaid(t, vault.URL, vault.token, q.method, q.path, q.body)
		if diff := cmp.Diff(want, askSaid(t, fake.URL, Token, q.method, q.path, q.body), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s %s %s: -vault +fake:\n%s", q.method, q.path, q.body, diff)
		}
	}
	want := askSaid(t, vault.URL, "another", "GET", "secret/data/a/b", "")
	if diff := cmp.Diff(want, askSaid(t, fake.URL, "another", "GET", "secret/data/a/b", ""), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("another token: -vault +fake:\n%s", diff)
	}
}

func askSaid(t *testing.T, url, token, method, path, body string) (s said) {
	t.Helper()
	status, answer := ask(t, url, token, method, "/v1/"+path, body)
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &s); err != nil {
			t.Errorf("%s %s: %s", method, path, answer)
		}
	}
	s.Status = status
	if s.Errors = s.Errors[:min(len(s.Errors), 1)]; len(s.Errors) > 0 {
		s.Errors[0] = "some"
	}
	return s
}
