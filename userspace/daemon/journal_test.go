package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"fairlead/testenv/stage"
	"fairlead/userspace/logfile"
	"fairlead/userspace/view"
)

// lines returns the records in files of an access log, by the path of a request or
// the service of a connection.
func lines(t *testing.T, files ...string) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			key, ok := r["path"].(string)
			if !ok {
				key = r["service"].(string)
			}
			if all[key] != nil {
				t.Errorf("%s is there twice", key)
			}
			all[key] = r
		}
	}
	return all
}

// TestLogsAreRotated: by somebody who renames them and sends SIGHUP, while requests
// come. The access log is told of each request once, whichever the file.
func TestLogsAreRotated(t *testing.T) {
	backend, _ := page(t, "page")
	plain, echoes := freeAddr(t), echo(t).Addr().String()
	dir := t.TempDir()
	access, own := filepath.Join(dir, "access"), filepath.Join(dir, "own")
	log, err := logfile.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r := &running{t: t, ended: make(chan error, 1), opts: Options{
		Config: filepath.Join(dir, "f.yaml"), RunDir: filepath.Join(dir, "run"), PinDir: filepath.Join(dir, "pins"),
		Log: slog.New(slog.NewTextHandler(log, nil)), Reopen: log.Reopen,
	}}
	r.write(fmt.Sprintf("access-log: {file: %s}\nservices:\n  - {name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}\n"+
		"  - {name: plain, listen: '%s', forward: proxy, backends: [{address: %q}]}\n", access, site, backend, plain, echoes))
	r.start()
	t.Cleanup(func() { r.stop() })
	c, err := net.Dial("tcp", plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "four"); err != nil {
		t.Fatal(err)
	}

	var asked atomic.Int64
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				fetch(t, fmt.Sprintf("/%d", asked.Add(1)))
			}
		}
	}()
	var files []string
	for i := range 3 {
		for _, name := range []string{access, own} {
			if err := os.Rename(name, fmt.Sprint(name, i)); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, fmt.Sprint(access, i))
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		stage.Await(t, "both logs to be opened again, and written", func() error {
			for _, name := range []string{access, own} {
				if info, err := os.Stat(name); err != nil || info.Size() == 0 {
					return errors.Join(err, fmt.Errorf("%s is empty", name))
				}
			}
			return nil
		})
	}
	close(stop)
	<-ended
	c.Close()
	stage.Await(t, "the connection to be logged", func() error {
		data, err := os.ReadFile(access)
		if err != nil || !strings.Contains(string(data), `"service":"plain"`) {
			return errors.Join(err, errors.New("not there"))
		}
		return nil
	})
	r.end()
	all := lines(t, append(files, access)...)
	for i := range asked.Load() {
		l := all[fmt.Sprintf("/%d", i+1)]
		if l == nil || l["service"] != "web" || l["status"] != 200.0 || l["backend"] != backend || l["reason"] != "done" || l["bytes_out"] == 0.0 {
			t.Fatalf("request %d of %d: %v", i+1, asked.Load(), l)
		}
	}
	if l := all["plain"]; l["protocol"] != "tcp" || l["bytes_in"] != 4.0 || l["ended_by"] != "client" || l["backend"] != echoes {
		t.Errorf("connection: %v", l)
	}
	for i := range 3 {
		data, err := os.ReadFile(fmt.Sprint(own, i))
		if want := "configuration taken"; err != nil || strings.Contains(string(data), want) != (i > 0) {
			t.Errorf("log %d: %q, %v", i, data, err)
		}
	}
}

func TestAnAccessLogComesAndGoesWithReloads(t *testing.T) {
	backend, _ := page(t, "page")
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	conf := func(log string) string {
		return fmt.Sprintf("%sservices: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}]\n", log, site, backend)
	}
	r := runAgent(t, conf(""))
	fetch(t, "/none")
	r.reload(conf("access-log: {file: " + first + ", format: '{path} {status}'}\n"))
	stage.Await(t, "the log to be there", func() error { _, err := os.Stat(first); return err })
	fetch(t, "/first")
	r.reload(conf("access-log: {file: " + dir + "/no/such, format: '{path}'}\n"))
	r.await("the fault", func(v view.View) bool { return strings.HasPrefix(v.ConfigError, "access-log: open log: open ") })
	fetch(t, "/still")
	r.reload(conf("access-log: {file: " + second + ", format: '{service} {path}'}\n"))
	stage.Await(t, "the other log to be there", func() error { _, err := os.Stat(second); return err })
	fetch(t, "/second")
	r.reload(conf(""))
	r.await("no fault", func(v view.View) bool { return v.ConfigError == "" })
	stage.Await(t, "logs to be written", func() error {
		a, errA := os.ReadFile(first)
		b, errB := os.ReadFile(second)
		if string(a) != "/first 200\n/still 200\n" || string(b) != "web /second\n" {
			return errors.Join(errA, errB, fmt.Errorf("%q and %q", a, b))
		}
		return nil
	})
}
