package httpproxy

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"fairlead/userspace/model"
)

func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestBasicAuthentication(t *testing.T) {
	rules := model.Rules{BasicAuth: &model.BasicAuth{Realm: `the "inside"`, Users: []model.User{{Name: "ann", Hash: hashOf(t, "secret:1")}, {Name: "bob", Hash: hashOf(t, "other")}}}}
	const refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 13\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Www-Authenticate: Basic realm=\"the \\\"inside\\\"\", charset=\"UTF-8\"\r\nX-Content-Type-Options: nosniff\r\n\r\nUnauthorized\n"
	with := func(credentials string) string {
		return ask + "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(credentials)) + "\r\n"
	}
	var rows []passing
	add := func(name, request string, passes bool) {
		row := passing{name, rules, request, "", okay, refused}
		if passes {
			row.sent, row.got = request+"\r\n", okay
		}
		rows = append(rows, row)
	}
	add("without credentials", ask, false)
	add("a user", with("ann:secret:1"), true)
	add("a user again, from memory", with("ann:secret:1"), true)
	add("another one", with("bob:other"), true)
	add("a wrong password", with("ann:secret"), false)
	add("the password of somebody else", with("ann:other"), false)
	add("an unknown user with a known one's password", with("eve:secret:1"), false)
	add("no password", with("ann"), false)
	add("an empty one", with("ann:"), false)
	add("another scheme", ask+"Authorization: Bearer ann\r\n", false)
	checkPassings(t, rows)
}

func TestRememberedPasswordsAreBounded(t *testing.T) {
	v, hash := newVerified(), hashOf(t, "a")
	for i := range maxVerified {
		v.right[[32]byte{byte(i), byte(i >> 8), 1}] = struct{}{}
	}
	if !v.fit(t.Context(), hash, "a", true) || len(v.right) != 1 {
		t.Errorf("%d are remembered", len(v.right))
	}
	for len(v.turns) < cap(v.turns) { // others hash
		v.turns <- struct{}{}
	}
	if !v.fit(t.Context(), hash, "a", true) {
		t.Error("what is remembered was hashed")
	}
}

func TestForwardAuthentication(t *testing.T) {
	t.Cleanup(judges.CloseIdleConnections)
	const (
		request = "POST /a%2Fb?c=d HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\nConnection: X-Hop, Remote-User\r\n" +
			"Cookie: c\r\nIf-None-Match: \"a\"\r\nRange: bytes=0-1\r\nRemote_User: root\r\nRemote-User: root\r\nX-Forwarded-Uri: /\r\nX-Hop: 1\r\n"
		headOfJudge = "GET /check?x HTTP/1.1\r\nHost: %s\r\nCookie: c\r\nForwarded: for=127.0.0.1;host=\"example.com\";proto=http\r\nRemote_user: root\r\n" +
			"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: example.com\r\nX-Forwarded-Method: POST\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Uri: /a%%2Fb?c=d\r\n\r\n"
		sent    = "POST /a%2Fb?c=d HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\nCookie: c\r\nIf-None-Match: \"a\"\r\nRange: bytes=0-1\r\n"
		late    = "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 16\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\r\nGateway Timeout\n"
		nobody  = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 12\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\r\nBad Gateway\n"
		refused = "HTTP/1.1 302 Found\r\nContent-Length: 2\r\nLocation: /login\r\nSet-Cookie: a=b\r\n\r\nno"
	)
	for _, row := range []struct {
		name, verdict string
		timeout       time.Duration
		sent, got     string
	}{
		{"passes", "HTTP/1.1 204 No Content\r\nRemote-User: ann\r\nRemote-Group: a\r\nRemote-Group: b\r\nX-Other: 1\r\n\r\n", patience, sent + "Remote-Group: a\r\nRemote-Group: b\r\nRemote-User: ann\r\n\r\n", okay},
		{"passes without a name", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", patience, sent + "\r\n", okay},
		{"does not pass", "HTTP/1.1 302 Found\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nLocation: /login\r\nSet-Cookie: a=b\r\n\r\nno", patience, "", refused},
		{"no answer", "", patience, "", nobody},
		{"an answer that is too large", "HTTP/1.1 403 Forbidden\r\nContent-Length: 1048577\r\n\r\n" + strings.Repeat("a", maxVerdict+1), patience, "", nobody},
		{"an answer that comes late", "wait", 500 * time.Millisecond, "", late},
	} {
		t.Run(row.name, func(t *testing.T) {
			waited := make(chan struct{})
			judge := take(t, func(string, net.Conn) string {
				if row.verdict == "wait" {
					<-waited
				}
				return row.verdict
			})
			rules := model.Rules{ForwardAuth: &model.ForwardAuth{
				URL: "http://" + judge.addr() + "/check?x", Headers: []string{"Remote-User", "Remote-Group"}, Timeout: row.timeout,
			}}
			f, b := ruled(t, rules, okay)
			gotSent, got := f.pass(b, request)
			close(waited)
			if diff := cmp.Diff([]string{row.sent, row.got}, []string{gotSent, got}); diff != "" {
				t.Errorf("backend and client got (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(fmt.Sprintf(headOfJudge, judge.addr()), judge.seen()[0]); diff != "" {
				t.Errorf("judge got (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequestIdentifiers(t *testing.T) {
	h := everything(usual)
	h.Routes[0].RequestID = &model.RequestID{Header: "X-Request-Id", Answer: true}
	b := take(t, say("ok"))
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	made := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	for _, row := range []struct{ name, header, want string }{
		{"none", "", ""},
		{"a client's", "X-Request-Id: abc\r\n", ""},
		{"one that is to end here", "Connection: X-Request-Id\r\nX-Request-Id: a\r\n", "a"},
		{"with another sign", "X_Request_Id: abc\r\n", ""},
		{"a peer's", "X-Request-Id: a-B_0.~+/=:@\r\n", "a-B_0.~+/=:@"},
		{"one that could not stand in a log", "X-Request-Id: a\"b\r\n", ""},
		{"one too long", "X-Request-Id: " + strings.Repeat("a", 129) + "\r\n", ""},
	} {
		h.Trusted = nil
		if row.name != "a client's" {
			h.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		f.route(h)
		before := len(b.seen())
		res, _ := f.ask(ask + row.header + "Connection: close\r\n\r\n")
		id := res.Header.Get("X-Request-Id")
		if id != row.want && (row.want != "" || !made.MatchString(id)) {
			t.Errorf("%s: client got %q", row.name, id)
		}
		head := b.seen()[before]
		if got := regexp.MustCompile(`(?im)^X.Request.Id: .*`).FindAllString(head, -1); len(got) != 1 || got[0] != "X-Request-Id: "+id+"\r" {
			t.Errorf("%s: backend got %q, client %q", row.name, got, id)
		}
	}
	h.Routes[0].RequestID.Answer = false
	f.route(h)
	if res, _ := f.ask(ask + "Connection: close\r\n\r\n"); res.Header.Get("X-Request-Id") != "" {
		t.Error("client got an identifier that it did not ask for")
	}
}
