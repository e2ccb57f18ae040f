package view

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// sample is a View with every field set; its form is in testdata.
func sample() View {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return View{
		Started: at, Written: at.Add(time.Minute),
		Config: "/etc/fairlead.yaml", ConfigError: "line 3", PinDir: "/sys/fs/bpf/fairlead",
		XDP: XDP{Mode: "auto", Reason: "eth1 has no native XDP", Interfaces: []Interface{
			{Name: "eth0", Mode: "native"},
			{Name: "eth1", Mode: "generic", Reason: "driver dummy: operation not supported"},
		}},
		Services: []Service{{
			Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Forward: "full-nat", Rung: RungGeneric, Reason: "eth1 is generic",
			Standby: false, StandbyReason: "this host listens there itself", Serving: "up",
			Backends: []Backend{
				{Address: "10.2.1.2:8080", Weight: 2, Share: 50, Serves: true, Flows: 3, Up: true, Known: true, Since: at, LastProbe: at, Latency: &Latency{1000, 0.001, 0.02, 0.3}},
				{Address: "10.2.1.3:*", Backup: true, Zone: "east", Share: 100, LastError: "connection refused"},
			},
		}},
		Proxy: Proxy{
			TCP: TCP{1, 2, 3, 4, 5, 6, 13, 7, 8, 9, 10, 11, 12},
			UDP: UDP{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},

			RangeSockets: 9, MaxRangeSockets: 10,
		},
		Fragments: Fragments{1, 2, 3, 4, 5, 6, 7},
	}
}

func TestJSONIsStable(t *testing.T) {
	v := sample()
	v.PID, v.Process = 12, 345
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestReadReturnsWhatWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	if err := Write(dir, sample()); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.PID, want.Process = os.Getpid(), got.Process
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !got.Alive() {
		t.Error("this process counts as gone")
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v; want 0644", info, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Errorf("files %q, %v; want the one", names, err)
	}
}

func TestWriteSetsTheTime(t *testing.T) {
	dir, before := t.TempDir(), time.Now()
	if err := Write(dir, View{}); err != nil {
		t.Fatal(err)
	}
	v, err := Read(dir)
	if err != nil || v.Written.Before(before.Truncate(0)) || v.Written.After(time.Now()) {
		t.Errorf("written %v, %v", v.Written, err)
	}
}

func TestWriteOverWhatAKilledOneLeft(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/full", filepath.Join(dir, tempName)); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, sample()); err != nil {
		t.Fatal(err)
	}
}

func TestReadersNeverSeeAPart(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, sample()); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for range 200 {
			if err := Write(dir, sample()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		if _, err := Read(dir); err != nil {
			t.Error(err)
			break
		}
	}
	writer.Wait()
}

func TestNothingToReadIsNotExist(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
	if err := Remove(dir); err != nil {
		t.Error(err)
	}
}

func TestRemoveTakesTheViewOut(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, sample()); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
}

func TestADamagedFileNamesItself(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want an error with %s", err, path)
	}
}

func TestAnotherProcessOfTheSameNumberIsNotAlive(t *testing.T) {
	start, err := processStart(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if (View{PID: os.Getpid(), Process: start - 1}).Alive() {
		t.Error("counts as alive")
	}
}

func TestAZombieIsNotAlive(t *testing.T) {
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	v := View{PID: c.Process.Pid}
	if v.Process, err = processStart(v.PID); err != nil {
		t.Fatal(err)
	}
	if !v.Alive() {
		t.Error("a running process counts as gone")
	}
	if err := in.Close(); err != nil { // it ends, and nobody has waited for it
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); v.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a process that has ended counts as alive")
		}
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if v.Alive() {
		t.Error("a process that was waited for counts as alive")
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	want := "/run/user/7/fairlead"
	if os.Geteuid() == 0 {
		want = SystemDir
	}
	if got := DefaultDir(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if got := DefaultDir(); got != SystemDir {
		t.Errorf("%s, want %s", got, SystemDir)
	}
}
