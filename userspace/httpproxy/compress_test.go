package httpproxy

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

var compressing = model.Rules{Compress: &model.Compress{Types: []string{"text/*", "a/b"}, MinSize: 10, Encodings: []string{"zstd", "br", "gzip"}}}

// decoded returns an answer whose body is as it was before it was compressed.
func decoded(t *testing.T, answer string) string {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	if err != nil {
		t.Fatal(err)
	}
	open := decodings[res.Header.Get("Content-Encoding")]
	body, err := io.ReadAll(res.Body)
	if err == nil && len(body) > 0 && open != nil {
		var r io.Reader
		if r, err = open(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(answer, "\r\n\r\n")
	if res.Header.Get("Content-Encoding") != "" && res.ContentLength > 0 {
		head = strings.Replace(head, fmt.Sprint("Content-Length: ", res.ContentLength), "Content-Length: right", 1)
	}
	return head + "\r\n\r\n" + string(body)
}

// wantCompressed has a backend answer a request, and wants what the client gets, with
// its body decoded.
func wantCompressed(t *testing.T, ask, answer, want string) {
	t.Helper()
	f, b := ruled(t, compressing, answer)
	sent, got := f.pass(b, ask)
	if sent != ask+"\r\n" {
		t.Errorf("backend got %q", sent)
	}
	if !strings.HasPrefix(ask, "HEAD") && !strings.Contains(got, "Content-Encoding: x") {
		got = decoded(t, got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("client got (-want +got):\n%s", diff)
	}
}

func TestCompression(t *testing.T) {
	const (
		text     = "twelve bytes"
		accept   = "Accept-Encoding: gzip\r\n"
		accepted = ask + accept
		plain    = "HTTP/1.1 200 OK\r\n"
		length   = "Content-Length: 12\r\n"
		kind     = "Content-Type: text/plain; charset=x\r\n"
		gzipped  = "Content-Encoding: gzip\r\n"
		varies   = "Vary: Accept-Encoding\r\n"
		right    = "Content-Length: right\r\n"
		chunked  = "Transfer-Encoding: chunked\r\n"

		part       = "HTTP/1.1 206 Partial Content\r\n"
		byteRanges = "Content-Type: multipart/byteranges; boundary=x\r\n"
		unchanged  = "HTTP/1.1 304 Not Modified\r\n"
		tag        = "Etag: \"a\"\r\n"
	)
	whole := func(headers string) string { return plain + headers + "\r\n" + text }
	for _, row := range []struct{ name, ask, answer, got string }{
		{"a text", ask + accept, whole(length + kind), plain + gzipped + kind + varies + right + "\r\n" + text},
		{"the best of the client's", ask + "Accept-Encoding: gzip;q=0.5, br\r\n", whole(length + kind), plain + "Content-Encoding: br\r\n" + kind + varies + right + "\r\n" + text},
		{"the best of ours", ask + "Accept-Encoding: gzip, br, zstd\r\n", whole(length + kind), plain + "Content-Encoding: zstd\r\n" + kind + varies + right + "\r\n" + text},
		{"nobody asked", ask, whole(length + kind), whole(length + kind + varies)},
		{"in chunks", ask + accept, plain + kind + chunked + "\r\nc\r\n" + text + "\r\n0\r\n\r\n", plain + gzipped + kind + varies + chunked + "\r\n" + text},
		{"an error", ask + accept, "HTTP/1.1 404 Not Found\r\n" + length + kind + "\r\n" + text, "HTTP/1.1 404 Not Found\r\n" + gzipped + kind + varies + right + "\r\n" + text},
		{"too short", ask + accept, plain + "Content-Length: 2\r\n" + kind + "\r\nok", plain + "Content-Length: 2\r\n" + kind + "\r\nok"},
		{"another type", ask + accept, whole(length + "Content-Type: image/png\r\n"), whole(length + "Content-Type: image/png\r\n")},
		{"no type", ask + accept, whole(length), whole(length)},
		{"events", ask + accept, whole(length + "Content-Type: text/event-stream\r\n"), whole(length + "Content-Type: text/event-stream\r\n")},
		{"not twice", ask + accept, whole("Content-Encoding: x\r\n" + length + kind), whole("Content-Encoding: x\r\n" + length + kind)},
		{"a part", ask + accept, part + length + kind + "Content-Range: bytes 0-11/20\r\n" + tag + "\r\n" + text, part + length + "Content-Range: bytes 0-11/20\r\n" + kind + tag + varies + "\r\n" + text},
		{"some parts", ask + accept, part + length + byteRanges + "\r\n" + text, part + length + byteRanges + varies + "\r\n" + text},
		{"a part of another type", ask + accept, part + length + "Content-Range: bytes 0-11/20\r\nContent-Type: image/png\r\n\r\n" + text, part + length + "Content-Range: bytes 0-11/20\r\nContent-Type: image/png\r\n\r\n" + text},
		{"a digest", ask + accept, whole(length + kind + "Digest: a=b\r\n"), whole(length + kind + "Digest: a=b\r\n")},
		{"not to be changed", ask + accept, whole("Cache-Control: private, No-Transform\r\n" + length + kind), whole("Cache-Control: private, No-Transform\r\n" + length + kind)},
		{"not to be changed, says the client", ask + "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n", whole(length + kind), whole(length + kind)},
		{"a strong tag becomes weak", ask + accept, whole("Accept-Ranges: bytes\r\n" + length + kind + "Etag: \"a\"\r\n"), plain + gzipped + kind + "Etag: W/\"a\"\r\n" + varies + right + "\r\n" + text},
		{"a weak tag stays", ask + accept, whole(length + kind + "Etag: W/\"a\"\r\n"), plain + gzipped + kind + "Etag: W/\"a\"\r\n" + varies + right + "\r\n" + text},
		{"a strong tag stays where nothing is done", ask, whole(length + kind + "Etag: \"a\"\r\n"), whole(length + kind + "Etag: \"a\"\r\n" + varies)},
		{"unchanged, by the weak tag", ask + accept + "If-None-Match: \"b\", W/\"a\"\r\n", unchanged + tag + "\r\n", unchanged + "Etag: W/\"a\"\r\n" + varies + "\r\n"},
		{"unchanged, by the strong tag", ask + accept + "If-None-Match: \"a\"\r\n", unchanged + tag + "\r\n", unchanged + tag + varies + "\r\n"},
		{"unchanged, and nobody asked", ask, unchanged + tag + "Vary: Cookie\r\n\r\n", unchanged + tag + "Vary: Cookie\r\n" + varies + "\r\n"},
		{"unchanged, of another type", ask + accept, unchanged + "Content-Type: image/png\r\n" + tag + "\r\n", unchanged + tag + "\r\n"},
		{"unchanged, and not to be changed", ask + accept, unchanged + "Cache-Control: no-transform\r\n" + tag + "\r\n", unchanged + "Cache-Control: no-transform\r\n" + tag + "\r\n"},
		{"varies already", ask, whole(length + kind + "Vary: Cookie, accept-encoding\r\n"), whole(length + kind + "Vary: Cookie, accept-encoding\r\n")},
		{"varies by something else", ask, whole(length + kind + "Vary: Cookie\r\n"), whole(length + kind + "Vary: Cookie\r\n" + varies)},
		{"HEAD", strings.Replace(ask, "GET", "HEAD", 1) + accept, plain + length + kind + "\r\n", plain + gzipped + kind + varies + "\r\n"},
		{"an answer of ours", ask + accept, "", "HTTP/1.1 502 Bad Gateway\r\n" + gzipped + "Content-Type: text/plain; charset=utf-8\r\n" + varies + "X-Content-Type-Options: nosniff\r\n" + right + "\r\nBad Gateway\n"},
	} {
		t.Run(row.name, func(t *testing.T) { wantCompressed(t, row.ask, row.answer, row.got) })
	}
}

// TestCompressionOfNothing has an empty body of unknown length, which net/http may
// send in either way: whole, or in chunks where it was told to flush.
func TestCompressionOfNothing(t *testing.T) {
	const status, kind = "HTTP/1.1 200 OK\r\n", "Content-Type: text/plain; charset=x\r\n"
	f, b := ruled(t, compressing, status+kind+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	_, got := f.pass(b, "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n")
	got = strings.Replace(decoded(t, got), "Content-Length: right", "Transfer-Encoding: chunked", 1)
	want := status + "Content-Encoding: gzip\r\n" + kind + "Vary: Accept-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("client got (-want +got):\n%s", diff)
	}
}

func TestPreferredEncodings(t *testing.T) {
	for _, row := range []struct{ accept, want string }{
		{"", ""}, {"gzip", "gzip"}, {"x-gzip", "gzip"}, {"GZip ; Q=0.1", "gzip"}, {"gzip;q=0", ""}, {"deflate", ""}, {"*", "zstd"},
		{"*;q=0", ""}, {"zstd;q=0, *", "br"}, {"gzip, *;q=0.5", "gzip"}, {"br;q=0.9, gzip;q=1.0", "gzip"}, {"identity", ""},
		{"identity, gzip;q=0.5", ""}, {"identity;q=0.5, gzip", "gzip"}, {"identity;q=0, gzip", "gzip"}, {"gzip;q=2", ""}, {"gzip;q=NaN", ""}, {"gzip;x=1", ""}, {",,gzip,", "gzip"},
	} {
		if got := preferred([]string{row.accept}, []string{"zstd", "br", "gzip"}); got != row.want {
			t.Errorf("%q: %q, want %q", row.accept, got, row.want)
		}
	}
	if got := preferred([]string{"br;q=0.1", "gzip"}, []string{"br", "gzip"}); got != "gzip" {
		t.Errorf("over two lines: %q", got)
	}
}

// TestCompressedPartsComeAsTheyAreSent reads each part of a body before the next
// one is sent.
func TestCompressedPartsComeAsTheyAreSent(t *testing.T) {
	goOn := make(chan struct{})
	b := take(t, func(_ string, c net.Conn) string {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, part := range []string{"one\n", "two\n", "end\n"} {
			fmt.Fprintf(c, "4\r\n%s\r\n", part)
			<-goOn
		}
		return "0\r\n\r\n"
	})
	h := everything(usual)
	h.Routes[0].Rules = compressing
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	check := func(client *http.Client, name string) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+f.addr, nil)
		r.Header.Set("Accept-Encoding", name)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		plain, err := decodings[res.Header.Get("Content-Encoding")](res.Body)
		if err != nil || res.Header.Get("Content-Encoding") != name {
			t.Fatalf("%s %s: encoding %q, error %v", res.Proto, name, res.Header.Get("Content-Encoding"), err)
		}
		lines := bufio.NewReader(plain)
		for _, want := range []string{"one\n", "two\n", "end\n", ""} {
			if got, err := lines.ReadString('\n'); got != want || err != nil && want != "" {
				t.Fatalf("%s %s: %q, want %q, error %v", res.Proto, name, got, want, err)
			}
			if want != "" {
				goOn <- struct{}{}
			}
		}
	}
	for _, name := range compressing.Compress.Encodings {
		check(http.DefaultClient, name)
		check(plaintext2(t), name)
	}
}

// TestCurlReadsWhatIsCompressed has libraries of others decode large and empty
// answers.
func TestCurlReadsWhatIsCompressed(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	large := strings.Repeat("a line of text, and another number: 1234567\n", 40_000)
	h := everything(usual)
	h.Routes[0].Rules = compressing
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, large)
		} else {
			_ = http.NewResponseController(w).Flush()
		}
	}))})
	for _, name := range compressing.Compress.Encodings {
		for path, want := range map[string]string{"/large": large, "/empty": ""} {
			got, err := exec.CommandContext(t.Context(), curl, "-s", "-S", "--compressed", "-H", "Accept-Encoding: "+name,
				"-w", "%header{content-encoding}", "http://"+f.addr+path).Output()
			if err != nil || string(got) != want+name {
				t.Errorf("%s %s: %d bytes, want %d, error %v", name, path, len(got), len(want)+len(name), err)
			}
		}
	}
}

// TestAnAnswerThatBreaksOffIsNotFinished wants no end of a stream whose beginning
// was compressed.
func TestAnAnswerThatBreaksOffIsNotFinished(t *testing.T) {
	half := make([]byte, 1<<20)
	_, _ = rand.Read(half)
	b := take(t, func(_ string, c net.Conn) string {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n%s", 2*len(half), half)
		return ""
	})
	h := everything(usual)
	h.Routes[0].Rules = compressing
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	c, r := f.dial()
	fmt.Fprint(c, ask+"Accept-Encoding: gzip\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("a whole answer of %d bytes", len(body))
	}
}
