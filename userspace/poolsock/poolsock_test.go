package poolsock

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
	"fairlead/userspace/control"
	"fairlead/userspace/peercred"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A plane notes changes, or refuses them with err.
type plane struct {
	control.Plane
	mu   sync.Mutex
	got  []control.Request
	err  error
	hold chan struct{} // closed: changes are made
}

func (p *plane) Change(ctx context.Context, r control.Request) (control.Revision, error) {
	if p.hold != nil {
		select {
		case <-p.hold:
		case <-ctx.Done():
			return control.Revision{}, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.got = append(p.got, r)
	}
	return control.Revision{}, p.err
}

// taken returns the changes, each as "pool: backends".
func (p *plane) taken() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.got {
		for _, e := range r.Edits {
			all = append(all, string(e.Op)+" "+e.Pool+": "+strings.Join(e.Backends, " "))
		}
	}
	return all
}

// open returns a server with the sockets of some pools, and its directory.
func open(t *testing.T, p *plane, pools ...string) (*Server, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lines") // short, as paths of sockets must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := New(dir, p, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Use(pools, own()); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// own allows this process's user.
func own() peercred.Allowed { return peercred.Allowed{Users: []uint32{uint32(os.Getuid())}} }

// ask sends parts, one write each, and returns the answer until the end.
func ask(t *testing.T, path string, parts ...string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, part := range parts {
		if _, err := io.WriteString(conn, part); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // it has not read all of what was sent
		t.Fatal(err)
	}
	return string(answer)
}

func TestLines(t *testing.T) {
	long := strings.Repeat("http://localhost:3000,", 3000)
	for _, row := range []struct {
		name   string
		sent   []string
		answer string
		taken  string // "" for nothing
	}{
		{"two", []string{"http://localhost:3000,http://localhost:3001\n"}, "ok\n", "http://localhost:3000 http://localhost:3001"},
		{"in parts", []string{"10.0.0.1:", "80", "\n"}, "ok\n", "10.0.0.1:80"},
		{"of others", []string{"a:1\r\n"}, "ok\n", "a:1"},
		{"blanks", []string{"  a:1 ,\tb:2  \n"}, "ok\n", "a:1 b:2"},
		{"the first line counts", []string{"a:1\nb:2\n"}, "ok\n", "a:1"},
		{"nothing", []string{"\n"}, "fault: " + errEmpty.Error() + "\n", ""},
		{"blanks alone", []string{" \t\n"}, "fault: " + errEmpty.Error() + "\n", ""},
		{"a comma too many", []string{"a:1,,b:2\n"}, "fault: backend 2 of 3 is empty: remove a comma\n", ""},
		{"no newline", []string{"a:1"}, "fault: " + errIdle.Error() + "\n", ""},
		{"silence", nil, "fault: " + errIdle.Error() + "\n", ""},
		{"too long", []string{long, "\n"}, "fault: " + errLong.Error() + "\n", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := &plane{}
			s, dir := open(t, p)
			s.idle = 200 * time.Millisecond
			if err := s.Use([]string{"web"}, own()); err != nil {
				t.Fatal(err)
			}
			if answer := ask(t, filepath.Join(dir, "pool.sock"), row.sent...); answer != row.answer {
				t.Errorf("answer %q, want %q", answer, row.answer)
			}
			var want []string
			if row.taken != "" {
				want = []string{"set-backends web: " + row.taken}
			}
			if diff := cmp.Diff(want, p.taken()); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestALineTooLongIsAnsweredAtOnce has it lack an end, and its sender wait.
func TestALineTooLongIsAnsweredAtOnce(t *testing.T) {
	s, dir := open(t, &plane{})
	s.idle = time.Hour
	if err := s.Use([]string{"web"}, own()); err != nil {
		t.Fatal(err)
	}
	if answer := ask(t, filepath.Join(dir, "pool.sock"), strings.Repeat("h", maxLine+100)); answer != "fault: "+errLong.Error()+"\n" {
		t.Errorf("answer %q", answer)
	}
}

func TestTheLongestLine(t *testing.T) {
	p := &plane{}
	_, dir := open(t, p, "web")
	line := strings.Repeat("h", maxLine-1) + "\n"
	if answer := ask(t, filepath.Join(dir, "pool.sock"), line); answer != "ok\n" || len(p.taken()) != 1 {
		t.Errorf("%d bytes: answer %q", len(line), answer)
	}
	if answer := ask(t, filepath.Join(dir, "pool.sock"), "hh"+line); answer != "fault: "+errLong.Error()+"\n" {
		t.Errorf("%d bytes: answer %q", len(line)+2, answer)
	}
}

// TestCutLine has a client that ends before its line does: what it sent may be a
// part of what it wanted.
func TestCutLine(t *testing.T) {
	for sent, want := range map[string]error{"a:1,b:2": errCut, "": errEmpty} {
		p := &plane{}
		_, dir := open(t, p, "web")
		conn, err := net.Dial("unix", filepath.Join(dir, "pool.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, _ := io.ReadAll(conn); string(answer) != "fault: "+want.Error()+"\n" || p.taken() != nil {
			t.Errorf("%q: answer %q, changes %v", sent, answer, p.taken())
		}
	}
}

// TestNetcat has Debian's netcat, which waits for the end of the answer.
func TestNetcat(t *testing.T) {
	if _, err := exec.LookPath("nc"); err != nil {
		if os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip("no nc: scripts/setup.sh test installs netcat-openbsd")
	}
	p := &plane{}
	_, dir := open(t, p, "web")
	for line, want := range map[string]string{
		"http://localhost:3000,http://localhost:3001\n": "ok\n",
		"\n":                               "fault: " + errEmpty.Error() + "\n",
		strings.Repeat("x", 65<<10) + "\n": "fault: " + errLong.Error() + "\n",
	} {
		cmd := exec.CommandContext(t.Context(), "nc", "-U", filepath.Join(dir, "pool.sock"))
		cmd.Stdin = strings.NewReader(line)
		if out, _ := cmd.Output(); string(out) != want { // its status tells what became of writing
			t.Errorf("answer %q, want %q", out, want)
		}
	}
	if want := []string{"set-backends web: http://localhost:3000 http://localhost:3001"}; !slices.Equal(p.taken(), want) {
		t.Errorf("changes %q", p.taken())
	}
}

func TestFaultsOfChangesAreOneLine(t *testing.T) {
	p := &plane{err: errors.New("change: a: x\nchange: b: \x1b[2Jy\n")}
	_, dir := open(t, p, "web")
	if answer := ask(t, filepath.Join(dir, "pool.sock"), "a:1\n"); answer != "fault: change: a: x; change: b:  [2Jy\n" {
		t.Errorf("answer %q", answer)
	}
}

func TestWhoIsNotAllowed(t *testing.T) {
	p := &plane{}
	s, dir := open(t, p, "web")
	path := filepath.Join(dir, "pool", "web.sock")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if err := s.Use([]string{"web"}, peercred.Allowed{Users: []uint32{4242}}); err != nil {
		t.Fatal(err)
	}
	answer := ask(t, path, "a:1\n")
	if !strings.HasPrefix(answer, "fault: uid ") || !strings.HasSuffix(answer, " may not change pools\n") || p.taken() != nil {
		t.Errorf("answer %q", answer)
	}
	if err := s.Use([]string{"web"}, own()); err != nil {
		t.Fatal(err)
	}
	if answer := ask(t, path, "a:1\n"); answer != "ok\n" || p.got[0].Who == "" || !p.got[0].Force {
		t.Errorf("answer %q, request %+v", answer, p.got[0])
	}
}

func TestSocketsFollowPools(t *testing.T) {
	p := &plane{}
	s, dir := open(t, p)
	for _, pools := range [][]string{{"web"}, {"web", "api"}, {"api"}, {}, {"db"}} {
		if err := s.Use(pools, own()); err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, name := range slices.Sorted(slices.Values(pools)) {
			want = append(want, name+".sock")
		}
		entries, err := os.ReadDir(filepath.Join(dir, "pool"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("pools %v have %v", pools, got)
		}
		for _, name := range pools {
			if answer := ask(t, filepath.Join(dir, "pool", name+".sock"), name+":1\n"); answer != "ok\n" {
				t.Errorf("%s: answer %q", name, answer)
			}
		}
		switch _, err := os.Stat(filepath.Join(dir, "pool.sock")); {
		case (err == nil) != (len(pools) == 1):
			t.Errorf("pools %v: pool.sock: %v", pools, err)
		case err == nil:
			ask(t, filepath.Join(dir, "pool.sock"), "only:1\n")
			if all := p.taken(); all[len(all)-1] != "set-backends "+pools[0]+": only:1" {
				t.Errorf("pools %v: %s", pools, all[len(all)-1])
			}
		}
	}
}

// TestFilesOfOthersStay has another process go on with the sockets.
func TestOthersReachSocketsWhateverTheUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // as the unit has it
	_, dir := open(t, &plane{}, "web")
	info, err := os.Stat(filepath.Join(dir, "pool"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFilesOfOthersStay(t *testing.T) {
	p := &plane{}
	s, dir := open(t, p, "web")
	next := New(dir, p, slog.New(slog.DiscardHandler))
	if err := next.Use([]string{"web"}, own()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if answer := ask(t, filepath.Join(dir, "pool.sock"), "a:1\n"); answer != "ok\n" {
		t.Errorf("answer %q", answer)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pool.sock", "pool/web.sock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCrowd has more clients at once than the server takes: each gets an answer,
// and those that were told ok are the changes.
func TestCrowd(t *testing.T) {
	p := &plane{hold: make(chan struct{})}
	_, dir := open(t, p, "web")
	path := filepath.Join(dir, "pool.sock")
	answers := make(chan string)
	const clients = 2 * maxOpen
	for range clients {
		go func() {
			conn, err := net.Dial("unix", path)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "a:1\n") // it may be refused before
			answer, _ := io.ReadAll(conn)
			answers <- string(answer)
		}()
	}
	counts := map[string]int{}
	for range clients - maxOpen { // who is refused does not wait for the others
		counts[<-answers]++
	}
	close(p.hold)
	for range maxOpen {
		counts[<-answers]++
	}
	want := map[string]int{"ok\n": maxOpen, "fault: " + errRoom.Error() + "\n": clients - maxOpen}
	if diff := cmp.Diff(want, counts); diff != "" || len(p.taken()) != maxOpen {
		t.Errorf("answers (-want +got):\n%s%d changes", diff, len(p.taken()))
	}
}

// TestEndWhileChanging has the server end while clients wait.
func TestEndWhileChanging(t *testing.T) {
	p := &plane{hold: make(chan struct{})}
	s, dir := open(t, p, "web")
	var silent, waiting net.Conn
	for _, conn := range []*net.Conn{&silent, &waiting} {
		var err error
		if *conn, err = net.Dial("unix", filepath.Join(dir, "pool.sock")); err != nil {
			t.Fatal(err)
		}
		defer (*conn).Close()
	}
	if _, err := io.WriteString(waiting, "a:1\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{silent, waiting} {
		if answer, _ := io.ReadAll(conn); strings.HasPrefix(string(answer), "ok") {
			t.Errorf("answer %q", answer)
		}
	}
	if err := s.Use([]string{"web"}, own()); err != nil || p.taken() != nil {
		t.Errorf("after the end: error %v, changes %v", err, p.taken())
	}
}
