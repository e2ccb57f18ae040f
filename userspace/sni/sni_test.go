package sni

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// helloOf returns the first bytes of a client of crypto/tls.
func helloOf(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = tls.Client(theirs, c).HandshakeContext(t.Context()) // nobody answers
	}()
	b := make([]byte, 8192)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-ended
	theirs.Close()
	return b[:n]
}

// records cuts the message of one record up into some of n bytes.
func records(hello []byte, n int) (all []byte) {
	for body := hello[5:]; len(body) > 0; body = body[min(n, len(body)):] {
		all = append(all, hello[:3]...)
		all = binary.BigEndian.AppendUint16(all, uint16(min(n, len(body))))
		all = append(all, body[:min(n, len(body))]...)
	}
	return all
}

// edit returns hello with other bytes in place of its first old.
func edit(hello []byte, old, fresh string) []byte {
	return bytes.Replace(hello, []byte(old), []byte(fresh), 1)
}

// plain returns a ClientHello of these extensions, in one record.
func plain(extensions ...byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0)
	if len(extensions) > 0 {
		body = binary.BigEndian.AppendUint16(body, uint16(len(extensions)))
		body = append(body, extensions...)
	}
	return message(body)
}

func message(body []byte) []byte {
	m := append([]byte{clientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	return append(binary.BigEndian.AppendUint16([]byte{handshake, 3, 1}, uint16(len(m))), m...)
}

func TestNamesOfClientHellos(t *testing.T) {
	modern := helloOf(t, &tls.Config{ServerName: "Www.Example.com", NextProtos: []string{"h2"}})
	old := helloOf(t, &tls.Config{ServerName: "www.example.com", MaxVersion: tls.VersionTLS12})
	for _, row := range []struct {
		name  string
		bytes []byte
		want  string
		err   error
	}{
		{"TLS 1.3, in lower case", modern, "www.example.com", nil},
		{"TLS 1.2", old, "www.example.com", nil},
		{"no name", helloOf(t, &tls.Config{InsecureSkipVerify: true}), "", nil},
		{"an address is no name", helloOf(t, &tls.Config{ServerName: "192.0.2.1"}), "", nil},
		{"no extensions", plain(), "", nil},
		{"a dot at the end", plain(0, 0, 0, 7, 0, 5, 0, 0, 2, 'a', '.'), "a", nil},
		{"cut up into many records", records(modern, 7), "www.example.com", nil},
		{"cut up into bytes", records(old, 1), "www.example.com", nil},
		{"something behind it", append(bytes.Clone(old), "more"...), "www.example.com", nil},
		{"nothing", nil, "", errShort},
		{"half a head", modern[:3], "", errShort},
		{"all but a byte", modern[:len(modern)-1], "", errShort},
		{"all but a record", records(modern, 100)[:105], "", errShort},
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), "", ErrNotTLS},
		{"one byte of HTTP", []byte("G"), "", ErrNotTLS},
		{"SSL 2", []byte{0x80, 0x2e, 1, 3, 1}, "", ErrNotTLS},
		{"an alert", []byte{21, 3, 1, 0, 2, 2, 40}, "", ErrNotTLS},
		{"another message", edit(old, "\x16\x03\x01"+string(old[3:5])+"\x01", "\x16\x03\x01"+string(old[3:5])+"\x02"), "", ErrNotTLS},
		{"another record in between", append(bytes.Clone(records(modern, 100)[:105]), 23, 3, 3, 0, 1, 0), "", ErrNotTLS},
		{"an empty record", append([]byte{22, 3, 1, 0, 0}, modern...), "", ErrNotTLS},
		{"a record that is too long", []byte{22, 3, 1, 0x40, 1}, "", ErrNotTLS},
		{"a message that is too long", []byte{22, 3, 1, 0, 4, 1, 0, 0x80, 1}, "", ErrLong},
		{"an extension longer than all", plain(0, 0, 0, 9, 0, 5, 0, 0, 2, 'a', '.'), "", ErrNotTLS},
		{"a list longer than its extension", plain(0, 0, 0, 7, 0, 6, 0, 0, 2, 'a', '.'), "", ErrNotTLS},
		{"a name longer than its list", plain(0, 0, 0, 7, 0, 5, 0, 0, 3, 'a', '.'), "", ErrNotTLS},
		{"an empty name", plain(0, 0, 0, 5, 0, 3, 0, 0, 0), "", ErrNotTLS},
		{"another kind of name", plain(0, 0, 0, 7, 0, 5, 1, 0, 2, 'a', '.'), "", ErrNotTLS},
		{"something behind the extensions", message(append(plain(0, 1, 0, 0)[9:], 0)), "", ErrNotTLS},
		{"a body that is cut off", message(make([]byte, 20)), "", ErrNotTLS},
	} {
		t.Run(row.name, func(t *testing.T) {
			name, err := nameOf(row.bytes)
			if name != row.want || !errors.Is(err, row.err) {
				t.Errorf("%q, %v; want %q, %v", name, err, row.want, row.err)
			}
		})
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add(plain(0, 0, 0, 7, 0, 5, 0, 0, 2, 'a', '.'))
	f.Add(records(plain(0, 0, 0, 7, 0, 5, 0, 0, 2, 'a', '.'), 3))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0x80, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := nameOf(b)
		if err == nil {
			if longer, err := nameOf(append(bytes.Clone(b), 'x')); longer != name || err != nil {
				t.Errorf("%q, but %q and %v with more behind it", name, longer, err)
			}
		}
	})
}

// pair returns both ends of a connection over loopback.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestPeekTakesNothing(t *testing.T) {
	hello := records(helloOf(t, &tls.Config{ServerName: "example.com"}), 50)
	client, server := pair(t)
	sent := make(chan error, 1)
	go func() {
		var err error
		for _, b := range hello {
			_, e := client.Write([]byte{b})
			err = errors.Join(err, e)
		}
		sent <- errors.Join(err, client.CloseWrite())
	}()
	if name, err := Peek(t.Context(), server); name != "example.com" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	got, err := io.ReadAll(server) // without a deadline that is left over
	if err != nil || !bytes.Equal(got, hello) {
		t.Errorf("%d bytes are left of %d, %v", len(got), len(hello), err)
	}
}

func TestPeekGivesUp(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "example.com"})
	for _, row := range []struct {
		name string
		send []byte
		end  bool
		want error
	}{
		{"nothing and the end", nil, true, io.ErrUnexpectedEOF},
		{"half of it and the end", hello[:100], true, io.ErrUnexpectedEOF},
		{"not TLS", []byte("GET /"), false, ErrNotTLS},
		{"too many records", bytes.Repeat([]byte{22, 3, 1, 0, 1, 1}, room/6+1), false, ErrLong},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, server := pair(t)
			if _, err := client.Write(row.send); err != nil {
				t.Fatal(err)
			}
			if row.end {
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if name, err := Peek(t.Context(), server); name != "" || !errors.Is(err, row.want) {
				t.Errorf("%q, %v; want %v", name, err, row.want)
			}
		})
	}
	client, server := pair(t)
	if _, err := client.Write(hello[:100]); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, stop)
	if _, err := Peek(ctx, server); !errors.Is(err, context.Canceled) {
		t.Errorf("asked to end: %v", err)
	}
}

func TestTheLongestPatternCounts(t *testing.T) {
	r := Routes[string]{"example.com": "exact", "*.example.com": "below", "*.a.example.com": "far below", "*.org": "all of org"}
	rest := Routes[string]{Any: "rest"}
	for name, want := range map[string]string{
		"example.com": "exact", "b.example.com": "below", "a.example.com": "below", "x.a.example.com": "far below", "y.x.a.example.com": "far below",
		"example.org": "all of org", "org": "", "com": "", "": "", "xexample.com": "", "*": "", "example.com.": "",
	} {
		if got, ok := r.Find(name); got != want || ok != (want != "") {
			t.Errorf("%q leads to %q, want %q", name, got, want)
		}
		if got, ok := rest.Find(name); got != "rest" || !ok {
			t.Errorf("%q leads to %q", name, got)
		}
	}
}
