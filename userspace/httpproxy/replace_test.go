package httpproxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"fairlead/userspace/model"
)

// encoded returns text in a content coding.
func encoded(t *testing.T, name, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := codings[name].open(&b)
	_, err := io.WriteString(w, text)
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReplacedTexts(t *testing.T) {
	rules := model.Rules{Replace: &model.Replace{Types: []string{"text/html"}, Texts: []model.Replacement{{Find: "old", With: "brand new"}, {Find: "gone"}}}}
	const head, kind = "HTTP/1.1 200 OK\r\n", "Content-Type: text/html\r\n"
	const identity = ask + "Accept-Encoding: identity\r\n\r\n"
	const done = head + kind + "Transfer-Encoding: chunked\r\n\r\n10\r\nthe brand new .\n\r\n0\r\n\r\n"
	length := func(body string) string { return "Content-Length: " + strconv.Itoa(len(body)) + "\r\n" }
	coded := func(name string) string {
		body := encoded(t, name, "the old gone.\n")
		return head + "Content-Encoding: " + name + "\r\n" + kind + length(body) + "\r\n" + body
	}
	checkPassings(t, []passing{
		{"a text", rules, ask, identity, head + kind + "Content-Length: 14\r\n\r\nthe old gone.\n", done},
		{"over borders of chunks", rules, ask, identity, head + kind + "Transfer-Encoding: chunked\r\n\r\n6\r\nthe ol\r\n3\r\nd g\r\n5\r\none.\n\r\n0\r\n\r\n", done},
		{"asked for in parts, or compressed", rules, ask + "Accept-Encoding: br\r\nRange: bytes=0-1\r\nIf-Range: \"a\"\r\n", identity, okay, okay},
		{"gzip", rules, ask, identity, coded("gzip"), done},
		{"br", rules, ask, identity, coded("br"), done},
		{"zstd", rules, ask, identity, coded("zstd"), done},
		{"an unknown encoding", rules, ask, identity, head + "Content-Encoding: x\r\nContent-Length: 3\r\n" + kind + "\r\nold", head + "Content-Encoding: x\r\nContent-Length: 3\r\n" + kind + "\r\nold"},
		{"a part", rules, ask, identity, "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n" + kind + "\r\nold", "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n" + kind + "\r\nold"},
		{"another type", rules, ask, identity, head + "Content-Length: 3\r\nContent-Type: text/css\r\n\r\nold", head + "Content-Length: 3\r\nContent-Type: text/css\r\n\r\nold"},
		{
			"what is about the old body", rules, ask, identity,
			head + "Accept-Ranges: bytes\r\nContent-Length: 3\r\n" + kind + "Digest: a=b\r\nEtag: \"a\"\r\n\r\nold",
			head + kind + "Etag: W/\"a\"\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbrand new\r\n0\r\n\r\n",
		},
		{
			"HEAD", rules, strings.Replace(ask, "GET", "HEAD", 1), strings.Replace(identity, "GET", "HEAD", 1),
			head + "Content-Length: 3\r\n" + kind + "\r\n", head + kind + "\r\n",
		},
	})
}

// TestReplacingIsTheSameWhateverThePieces compares with a replacer that has all of
// the text at once.
func TestReplacingIsTheSameWhateverThePieces(t *testing.T) {
	some := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abc"[rand.IntN(3)]
		}
		return string(b)
	}
	for range 500 {
		var texts []model.Replacement
		var pairs []string
		var firsts [256]bool
		for range 1 + rand.IntN(4) {
			t := model.Replacement{Find: some(1 + rand.IntN(4)), With: some(rand.IntN(6))}
			texts, pairs = append(texts, t), append(pairs, t.Find, t.With)
			firsts[t.Find[0]] = true
		}
		text := some(rand.IntN(200))
		want := strings.NewReplacer(pairs...).Replace(text)
		for name, src := range map[string]io.Reader{
			"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text)), "an end with data": iotest.DataErrReader(strings.NewReader(text)),
		} {
			r := &replacing{src: io.NopCloser(src), open: decodings[""], texts: texts, firsts: &firsts, block: moving.Get()}
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || string(got) != want {
				t.Fatalf("%s of %q with %q: %q, error %v, want %q", name, text, pairs, got, err, want)
			}
		}
	}
}

// TestReplacingTakesNoMemory makes much of little.
func TestReplacingTakesNoMemory(t *testing.T) {
	const size, with = 1 << 16, 1 << 12
	var firsts [256]bool
	firsts[0] = true
	r := &replacing{
		src: io.NopCloser(io.LimitReader(zeros{}, size)), open: decodings[""], block: make([]byte, bufferSize), firsts: &firsts,
		texts: []model.Replacement{{Find: "\x00", With: strings.Repeat("x", with)}},
	}
	n, err := io.Copy(io.Discard, struct{ io.Reader }{r})
	if err != nil || n != size*with {
		t.Errorf("%d bytes, error %v", n, err)
	}
	if cap(r.store) > 4*maxReplaced {
		t.Errorf("%d bytes wait", cap(r.store))
	}
	r.Close()
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
