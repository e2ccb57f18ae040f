package state

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"fairlead/testenv/testvault"
	"fairlead/userspace/model"
)

// TestTheDocumentedPolicyIsEnoughAndNoMoreThanThat has Vault itself judge what
// docs/control.md says that a token needs.
func TestTheDocumentedPolicyIsEnoughAndNoMoreThanThat(t *testing.T) {
	text, err := os.ReadFile("../../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```hcl\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("no policy in docs/control.md")
	}
	policy := string(found[1])
	server := testvault.Start(t)
	conf := func(policy string) *model.Vault {
		return &model.Vault{Address: server.URL, TokenFile: server.Allow(policy)}
	}
	works(t, conf(policy))
	works(t, conf(policy)) // what is there is taken over
	p, err := peekAt(t.Context(), conf(`
path "secret/data/fairlead/*"     { capabilities = ["read"] }
path "secret/metadata/fairlead/*" { capabilities = ["list"] }`), "secret/fairlead")
	if err != nil || p.Revision.Number == 0 {
		t.Errorf("read and list are not enough to look: %+v, %v", p, err)
	}
	for lacks, want := range map[string]string{
		"create": "create and update secret/data/fairlead/blobs/", "read": "read secret/data/fairlead/head",
		"update": "create and update secret/data/fairlead/head", "list": "list secret/metadata/fairlead/blobs", "delete": "delete secret/metadata/fairlead/blobs/",
	} {
		_, _, err := openAt(t.Context(), conf(strings.Replace(policy, `"`+lacks+`"`, `"sudo"`, 1)), "secret/fairlead")
		if err == nil || !strings.Contains(err.Error(), "no policy lets it "+want) {
			t.Errorf("without %s: %v", lacks, err)
		}
	}
}

// works has a store do all that one does.
func works(t *testing.T, conf *model.Vault) {
	t.Helper()
	v, _, err := openAt(t.Context(), conf, "secret/fairlead")
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, v)
	h, err := NewHistory(t.Context(), v, 5)
	if err != nil {
		t.Fatal(err)
	}
	_, last := h.Bounds()
	for i := range 300 { // enough for pages to go
		if err := h.Append(t.Context(), []Step{numbered(last + uint64(i) + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		err = errors.Join(err, v.Keep(t.Context(), "x", []byte("y")))
	}
	if err != nil || len(v.garbage) > 0 {
		t.Errorf("%v, left: %v", err, v.garbage)
	}
}
