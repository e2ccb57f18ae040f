package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func sample() *Record {
	return &Record{
		Began: time.Date(2030, 1, 2, 3, 4, 5, 6e6, time.UTC), Service: "web", Protocol: "http", Client: "192.0.2.1", Peer: "10.0.0.1:5000",
		Method: "GET", Host: "example.com", Path: "/a\"b\\c\n\x7f?ü", Version: "HTTP/1.1", UserAgent: "curl/8", Referer: "http://r/", RequestID: "id", TraceID: "t",
		Status: 200, Pool: "main", Backend: "10.0.0.2:80", Retries: 1, Queue: time.Millisecond, Connect: 1500 * time.Microsecond, FirstByte: 2 * time.Millisecond, Total: 2 * time.Second,
		BytesIn: 3, BytesOut: 4, Ending: Ending{Backend, Done},
	}
}

func lineOf(t *testing.T, format string, r *Record) string {
	t.Helper()
	f, err := ParseFormat(format)
	if err != nil {
		t.Fatal(err)
	}
	return string(f.appendTo(nil, r))
}

func TestJSONIsStable(t *testing.T) {
	const want = `{"time":"2030-01-02T03:04:05.006Z","service":"web","protocol":"http","client":"192.0.2.1","peer":"10.0.0.1:5000","method":"GET","host":"example.com",` +
		`"path":"/a\"b\\c\u000a\u007f?ü","version":"HTTP/1.1","user_agent":"curl/8","referer":"http://r/","request_id":"id","trace_id":"t","status":200,"pool":"main","backend":"10.0.0.2:80",` +
		`"retries":1,"queue_ms":1.000,"connect_ms":1.500,"first_byte_ms":2.000,"total_ms":2000.000,"bytes_in":3,"bytes_out":4,"ended_by":"backend","reason":"done"}` + "\n"
	got := lineOf(t, JSON, sample())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var back map[string]any
	if err := json.Unmarshal([]byte(got), &back); err != nil || len(back) != len(fields) || back["path"] != sample().Path {
		t.Errorf("%v, %v", back, err)
	}
	if got := lineOf(t, JSON, &Record{Path: "\xff\x80x"}); !strings.Contains(got, "\"path\":\"\ufffdx\"") {
		t.Errorf("%s", got)
	}
	if got := lineOf(t, JSON, &Record{Service: "plain"}); got != `{"time":"0001-01-01T00:00:00.000Z","service":"plain","retries":0,"bytes_in":0,"bytes_out":0}`+"\n" {
		t.Errorf("%s", got)
	}
}

func TestTemplates(t *testing.T) {
	for _, row := range []struct{ format, want string }{
		{"{client} \"{method} {path}\" {status}", "192.0.2.1 \"GET /a\\\"b\\\\c\\x0a\\x7f?ü\" 200"},
		{"{{{pool}}} {total_ms}", "{main} 2000.000"},
		{"{status}", "200"},
	} {
		if got := lineOf(t, row.format, sample()); got != row.want+"\n" {
			t.Errorf("%s: %q, want %q", row.format, got, row.want)
		}
	}
	if got := lineOf(t, "{status} {pool} {queue_ms} {retries}", &Record{}); got != "- - - 0\n" {
		t.Errorf("%q", got)
	}
}

func TestWrongTemplates(t *testing.T) {
	for _, row := range []struct{ format, want string }{
		{"", "has no field in it"}, {"JSON", "has no field in it"}, {"{{status}}", "has no field in it"},
		{"{status", "has a { or } by itself"}, {"status}", "has a { or } by itself"},
		{"{code}", "has {code}, which is no field: use time, service, "},
	} {
		if _, err := ParseFormat(row.format); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%q: %v, want %s", row.format, err, row.want)
		}
	}
}

// TestLinesAreInTheirFile: those that were added before Reopen in the old one, those
// after it in the new one.
func TestLinesAreInTheirFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	f, err := ParseFormat("{path} end")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(path, f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const files, writers, lines = 10, 4, 2000
	for n := range files {
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range lines {
					l.Add(&Record{Path: fmt.Sprintf("%d-%d-%d", n, w, i)})
				}
			})
		}
		all.Wait()
		if err := os.Rename(path, fmt.Sprint(path, n)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for n := range files {
		data, err := os.ReadFile(fmt.Sprint(path, n))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for line := range strings.Lines(string(data)) {
			seen[line] = strings.HasPrefix(line, fmt.Sprint(n, "-")) && strings.HasSuffix(line, " end\n")
			if !seen[line] {
				t.Fatalf("%q is in file %d", line, n)
			}
		}
		if len(seen) != writers*lines {
			t.Errorf("%d lines in file %d, want %d", len(seen), n, writers*lines)
		}
	}
}

func TestLinesDoNotWaitForLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(path, Format{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { l.Run(ctx) })
		l.Add(sample())
		time.Sleep(2 * flushEvery)
		if data, err := os.ReadFile(path); err != nil || bytes.Count(data, []byte("\n")) != 1 {
			t.Errorf("%q, %v", data, err)
		}
		stop()
		running.Wait()
	})
}

func TestALogThatCannotBeWrittenSaysSoOnce(t *testing.T) {
	var said bytes.Buffer
	l, err := Open("/dev/full", Format{}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 5000 {
		l.Add(sample())
	}
	if n := strings.Count(said.String(), "write access log"); n != 1 || cap(l.lines) > 4*flushAt {
		t.Errorf("said %d times, %d bytes wait: %s", n, cap(l.lines), said.String())
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, format := range []string{JSON, "{time} {client} \"{method} {path}\" {status} {bytes_out} {total_ms}"} {
		f, err := ParseFormat(format)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(format, func(b *testing.B) {
			l, err := Open(filepath.Join(b.TempDir(), "access"), f, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			for b.Loop() {
				l.Add(sample())
			}
		})
	}
}
