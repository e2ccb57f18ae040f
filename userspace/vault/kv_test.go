package vault

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/testvault"
	"fairlead/userspace/model"
)

func openKV(t *testing.T, s *testvault.Server, path string) *KV {
	t.Helper()
	return openKVAt(t, s.URL, s.TokenFile, path)
}

func openKVAt(t *testing.T, url, tokenFile, path string) *KV {
	t.Helper()
	kv, err := OpenKV(&model.Vault{Address: url, TokenFile: tokenFile}, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func TestWhatIsPutIsThere(t *testing.T) { testvault.OnAny(t, putIsThere) }

func putIsThere(t *testing.T, url, tokenFile string) {
	kv := openKVAt(t, url, tokenFile, "secret/a b/c")
	get := func(wantData string, wantVersion int) {
		t.Helper()
		data, version, err := kv.Get(t.Context(), "x")
		if string(data) != wantData || version != wantVersion || err != nil {
			t.Errorf("%q of version %d, %v; want %q of %d", data, version, err, wantData, wantVersion)
		}
	}
	put := func(data string, version int, ok bool) {
		t.Helper()
		var bytes []byte // nil for ""
		if data != "" {
			bytes = []byte(data)
		}
		got, err := kv.Put(t.Context(), "x", bytes, version)
		if ok != (err == nil) || ok && got != version+1 {
			t.Errorf("put %q in the place of %d: %d, %v", data, version, got, err)
		}
	}
	get("", 0)
	put("one\x00\xff", 0, true)
	get("one\x00\xff", 1)
	put("again", 0, false)
	put("two", 1, true)
	put("late", 1, false)
	get("two", 2)
	if names, err := openKVAt(t, url, tokenFile, "secret").List(t.Context(), "a b/c"); len(names) != 1 || names[0] != "x" || err != nil {
		t.Errorf("names %q, %v", names, err)
	}
	if _, err := kv.ask(t.Context(), "DELETE", "data", "secret/a b/c/x", nil); err != nil {
		t.Fatal(err)
	}
	get("", 2) // and its version is still to be known
	put("three", 2, true)
	put("", 3, true)
	if data, _, err := kv.Get(t.Context(), "x"); data == nil || len(data) > 0 || err != nil {
		t.Errorf("nothing is kept as %q, %v", data, err)
	}
	if err := kv.Delete(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	get("", 0)
	if err := kv.Delete(t.Context(), "x"); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

func TestNamesAreListed(t *testing.T) { testvault.OnAny(t, namesAreListed) }

func namesAreListed(t *testing.T, url, tokenFile string) {
	kv := openKVAt(t, url, tokenFile, "secret/a")
	if names, err := kv.List(t.Context(), "all"); len(names) != 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	for _, name := range []string{"all/x", "all/y", "all/z/deep", "other"} {
		if _, err := kv.Put(t.Context(), name, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	names, err := kv.List(t.Context(), "all")
	if diff := cmp.Diff([]string{"x", "y", "z/"}, names); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestFaultsOfAKV(t *testing.T) {
	s := testvault.New(t)
	s.Set("a/people", map[string]string{"password": "hush"})
	s.Set("a/other", map[string]string{field: "hush!"})
	kv, nowhere := openKV(t, s, "secret/a"), openKV(t, s, "none/a")
	get := func(kv *KV, name string) error {
		_, _, err := kv.Get(t.Context(), name)
		return err
	}
	put := func(kv *KV, name string) error {
		_, err := kv.Put(t.Context(), name, nil, 0)
		return err
	}
	const foreign = "it is not what fairlead has put there: use another path"
	for _, row := range []struct {
		fate testvault.Fate
		err  func() error
		want string
	}{
		{testvault.Answered, func() error { return get(kv, "people") }, "read secret/a/people of vault: " + foreign},
		{testvault.Answered, func() error { return get(kv, "other") }, "read secret/a/other of vault: " + foreign},
		{testvault.Answered, func() error { return put(nowhere, "x") }, "write none/a/x of vault: there is no KV store, version 2, at none"},
		{testvault.Denied, func() error { return put(kv, "x") }, "write secret/a/x of vault: not allowed: the token is not good, or no policy lets it create and update secret/data/a/x"},
		{testvault.Denied, func() error { return kv.Delete(t.Context(), "x") }, "delete secret/a/x of vault: not allowed: the token is not good, or no policy lets it delete secret/metadata/a/x"},
		{testvault.Denied, func() error { _, err := kv.List(t.Context(), "x"); return err }, "list secret/a/x of vault: not allowed: the token is not good, or no policy lets it list secret/metadata/a/x"},
		{testvault.Refused, func() error { return get(kv, "x") }, "read secret/a/x of vault: status 500"},
	} {
		s.Fail(func(_, _ string) testvault.Fate { return row.fate })
		err := row.err()
		if err == nil || err.Error() != row.want || strings.Contains(err.Error(), "hush") {
			t.Errorf("error %v\nwant %s", err, row.want)
		}
	}
	s.Fail(nil)
	kv.conf.TokenFile = ""
	t.Setenv("VAULT_TOKEN", "")
	if err := get(kv, "x"); !errors.Is(err, errNoToken) {
		t.Errorf("without a token: %v", err)
	}
}

func TestTokensOfSecretsAreRead(t *testing.T) {
	s := testvault.New(t)
	s.Set("web", map[string]string{"token": "abc"})
	store, err := Open(&model.Vault{Address: s.URL, TokenFile: s.TokenFile})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Read(Fields{"secret/web": {"token"}})
	if token, tokenErr := store.Token("secret/web"); err != nil || tokenErr != nil || token != "abc" {
		t.Errorf("%q, %v, %v", token, err, tokenErr)
	}
	s.Set("db", map[string]string{"other": "abc"})
	want := "read secret/db of vault: the secret has no token: put text there"
	err = store.Read(Fields{"secret/db": {"token"}})
	if token, tokenErr := store.Token("secret/db"); err == nil || err.Error() != want || tokenErr == nil || token != "" {
		t.Errorf("error %v, want %s; %q, %v", err, want, token, tokenErr)
	}
}
