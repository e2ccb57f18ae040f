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

	"fairlead/testenv"
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

// A rotation is an agent whose log and access log are files.
type rotation struct {
	*running
	access, own    string
	plain, backend string // where the TCP service listens, and who serves the other
	echoes         string
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	dir := t.TempDir()
	x := &rotation{access: filepath.Join(dir, "access"), own: filepath.Join(dir, "own"), plain: testenv.FreeAddress(t), echoes: echo(t).Addr().String()}
	x.backend, _ = page(t, "page")
	log, err := logfile.Open(x.own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	x.running = &running{t: t, ended: make(chan error, 1), opts: Options{
		Config: filepath.Join(dir, "f.yaml"), RunDir: filepath.Join(dir, "run"), PinDir: filepath.Join(dir, "pins"),
		Log: slog.New(slog.NewTextHandler(log, nil)), Reopen: log.Reopen,
	}}
	x.write(fmt.Sprintf("access-log: {file: %s}\nservices:\n  - {name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}\n"+
		"  - {name: plain, listen: '%s', forward: proxy, backends: [{address: %q}]}\n", x.access, site, x.backend, x.plain, x.echoes))
	x.start()
	t.Cleanup(func() { x.stop() })
	return x
}

// rotate renames both files, and waits until new ones are written to.
func (x *rotation) rotate(number int) {
	x.t.Helper()
	for _, name := range []string{x.access, x.own} {
		if err := os.Rename(name, fmt.Sprint(name, number)); err != nil {
			x.t.Fatal(err)
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		x.t.Fatal(err)
	}
	stage.Await(x.t, "both logs to be opened again, and written", func() error {
		for _, name := range []string{x.access, x.own} {
			if info, err := os.Stat(name); err != nil || info.Size() == 0 {
				return errors.Join(err, fmt.Errorf("%s is empty", name))
			}
		}
		return nil
	})
}

// TestLogsAreRotated: by somebody who renames them and sends SIGHUP, while requests
// come. The access log is told of each request once, whichever the file.
func TestLogsAreRotated(t *testing.T) {
	x := newRotation(t)
	c, err := net.Dial("tcp", x.plain)
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
	const rounds = 3
	files := []string{x.access}
	for i := range rounds {
		x.rotate(i)
		files = append(files, fmt.Sprint(x.access, i))
	}
	close(stop)
	<-ended
	c.Close()
	stage.Await(t, "the connection to be logged", func() error {
		data, err := os.ReadFile(x.access)
		if err != nil || !strings.Contains(string(data), `"service":"plain"`) {
			return errors.Join(err, errors.New("not there"))
		}
		return nil
	})
	x.end()
	all := lines(t, files...)
	for i := range asked.Load() {
		l := all[fmt.Sprintf("/%d", i+1)]
		if l == nil || l["service"] != "web" || l["status"] != 200.0 || l["backend"] != x.backend || l["reason"] != "done" || l["bytes_out"] == 0.0 {
			t.Fatalf("request %d of %d: %v", i+1, asked.Load(), l)
		}
	}
	if l := all["plain"]; l["protocol"] != "tcp" || l["bytes_in"] != 4.0 || l["ended_by"] != "client" || l["backend"] != x.echoes {
		t.Errorf("connection: %v", l)
	}
	for i := range rounds {
		data, err := os.ReadFile(fmt.Sprint(x.own, i))
		if err != nil || strings.Contains(string(data), "configuration taken") != (i > 0) {
			t.Errorf("log %d: %q, %v", i, data, err)
		}
	}
}

func TestAnAccessLogComesAndGoesWithReloads(t *testing.T) {
	backend, _ := page(t, "page")
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	conf := func(name, log string) string {
		return fmt.Sprintf("%sservices: [{name: %s, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}]\n", log, name, site, backend)
	}
	r := runAgent(t, conf("zero", ""))
	reload := func(name, log string) {
		t.Helper()
		r.reload(conf(name, log))
		r.await("the reload", func(v view.View) bool { return v.Services[0].Name == name })
		fetch(t, "/"+name)
	}
	fetch(t, "/zero")
	reload("one", "access-log: {file: "+first+", format: '{path} {status}'}\n")
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "no/such"), pipe} {
		r.reload(conf("two", "access-log: {file: "+bad+", format: '{path}'}\n"))
		r.await("the fault", func(v view.View) bool {
			return strings.Contains(v.ConfigError, ": access-log.file: cannot be written: open "+bad+": ")
		})
		fetch(t, "/still")
	}
	reload("three", "access-log: {file: "+second+", format: '{service} {path}'}\n")
	reload("four", "")
	stage.Await(t, "logs to be written", func() error {
		a, errA := os.ReadFile(first)
		b, errB := os.ReadFile(second)
		if string(a) != "/one 200\n/still 200\n/still 200\n" || string(b) != "three /three\n" {
			return errors.Join(errA, errB, fmt.Errorf("%q and %q", a, b))
		}
		return nil
	})
}
