package config

import (
	"strings"
	"testing"
)

// withSecrets is a document whose secrets all have "sesame" in them.
const withSecrets = `services:
  - name: web
    listen: 203.0.113.10:80
    forward: http
    backends: [{url: "http://10.0.0.1:80"}]
    sticky: {cookie: route, key: sesame-key}
    health: {type: http, headers: {Authorization: Bearer sesame, X-Auth: sesame, X-Access-Key: sesame, X-Check: plain}}
    forward-auth: {url: "http://user:sesame@10.2.9.1:9000/check"}
notify:
  - {url: "https://hooks.example.com/sesame", headers: {X-Api-Key: sesame}}
`

func TestSecretsAreHiddenFromThoseWhoLook(t *testing.T) {
	text, err := NewTree("f", []byte(withSecrets)).Redacted()
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]string{"a configuration": string(text), "what an edit says": RedactedSpec(withSecrets)} {
		if strings.Contains(shown, "sesame") {
			t.Errorf("%s shows a secret:\n%s", name, shown)
		}
		for _, want := range []string{"X-Check: plain", "http://10.0.0.1:80", "(secret)@10.2.9.1:9000/check"} {
			if !strings.Contains(shown, want) {
				t.Errorf("%s lacks %s:\n%s", name, want, shown)
			}
		}
	}
	if s := RedactedSpec(`{"health": {"headers": {"Cookie": "sesame"}}}`); strings.Contains(s, "sesame") || !strings.Contains(s, "Cookie") {
		t.Errorf("JSON is shown as %s", s)
	}
	if s := RedactedSpec("token: sesame: ["); s != hidden {
		t.Errorf("what cannot be read is shown as %s", s)
	}
	if s := RedactedSpec(""); s != "" {
		t.Errorf("nothing is shown as %q", s)
	}
}
