package fairlead_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"fairlead"
	"fairlead/testenv"
	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A program that embeds the balancer.
func ExampleRun() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := fairlead.Run(ctx, "config.yaml"); err != nil {
		log.Fatal(err)
	}
}

// TestAnotherModuleEmbedsTheBalancer builds testdata/embed as a module of its own,
// without the network, and sends it a request.
func TestAnotherModuleEmbedsTheBalancer(t *testing.T) {
	dir, root := t.TempDir(), must(os.Getwd())(t)
	program := must(os.ReadFile("testdata/embed/main.go"))(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
	defer backend.Close()
	listen := testenv.FreeAddress(t)
	for name, text := range map[string]string{
		"main.go": string(program),
		"go.mod":  fmt.Sprintf("module example\n\ngo 1.26.0\n\nrequire fairlead v0.0.0\n\nreplace fairlead => %s\n", root),
		"go.sum":  string(must(os.ReadFile("go.sum"))(t)),
		"config.yaml": fmt.Sprintf("xdp: off\nagent: {run-dir: %s}\nservices: [{name: web, listen: %q, forward: http, backends: [{url: %q}]}]\n",
			filepath.Join(dir, "run"), listen, backend.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-mod=mod", "-o", "embed", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOPROXY=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.Command("./embed")
	run.Dir, run.Stderr = dir, t.Output()
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	if body := await(t, "http://"+listen+"/path"); body != "/path" {
		t.Errorf("answer %q", body)
	}
	if err := run.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := run.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// await asks for a page until there is one.
func await(t *testing.T, url string) string {
	t.Helper()
	var res *http.Response
	testenv.AwaitNil(t, "an answer", func() (err error) {
		res, err = http.Get(url)
		return err
	})
	defer res.Body.Close()
	return string(must(io.ReadAll(res.Body))(t))
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
