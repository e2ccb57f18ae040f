package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead/testenv/leak"
)

// endAtOnce makes a successor say what stands behind it, and end.
const endAtOnce = "end-at-once"

// TestMain makes the test binary a successor where it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == endAtOnce {
		Explain(errors.New(os.Args[2]))
		os.Exit(4)
	}
	p, err := Predecessor()
	if err == nil && p == nil {
		os.Exit(leak.Each(m).Run())
	}
	if err == nil {
		if err = answer(p); err != nil {
			p.Explain(err)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// answer reads from each file that it is given, and gives back what it has read.
func answer(p *Peer) error {
	items, err := p.Receive("files")
	if err != nil {
		return err
	}
	var answers []Item
	for _, item := range items {
		text := item.Text + " without a file"
		if item.File != nil {
			b, err := io.ReadAll(item.File)
			if err != nil {
				return err
			}
			text = item.Text + " " + string(b)
		}
		answers = append(answers, Item{Text: text})
	}
	Close(items)
	return p.Send("texts", answers...)
}

func start(t *testing.T, args ...string) *Successor {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(append([]string{own}, args...))
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(time.Minute))
	return s
}

func TestItemsArriveWithTheirFiles(t *testing.T) {
	t.Setenv("WATCHDOG_PID", "1")
	s := start(t)
	var items []Item
	var want []string
	for i := range 3*batch + 1 {
		item, text := Item{Text: fmt.Sprint(i)}, fmt.Sprint(i, " without a file")
		if i%3 > 0 {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, "file ", i)
			w.Close()
			item.File, text = r, fmt.Sprint(i, " file ", i)
		}
		items, want = append(items, item), append(want, text)
	}
	if err := s.Send("files", items...); err != nil {
		t.Fatal(err)
	}
	Close(items)
	got, err := s.Receive("texts")
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d items, %v", len(got), err)
	}
	for i, item := range got {
		if item.Text != want[i] {
			t.Errorf("got %q, want %q", item.Text, want[i])
		}
	}
	if how := s.End(true); how != "exit status 0" {
		t.Error(how)
	}
}

func TestTheEndOfTheOtherProcessIsSeen(t *testing.T) {
	s := start(t)
	if err := s.Send("nonsense"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive("texts"); !errors.Is(err, ErrGone) || err.Error() != "wait for texts: the other process is gone: wait for files: got nonsense" {
		t.Errorf("receive: %v", err)
	}
	_ = s.cmd.Wait() // ends with status 3
	if err := s.Send("files"); !errors.Is(err, ErrGone) {
		t.Errorf("send: %v", err)
	}
	if how := s.End(true); how != "exit status 3" {
		t.Error(how)
	}

	s = start(t)
	s.SetDeadline(time.Now())
	if _, err := s.Receive("texts"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("receive: %v", err)
	}
	if how := s.End(false); how != "signal: killed" {
		t.Error(how)
	}
}

// TestWhoEndsSaysWhy even if that one has not read what was sent, or is gone by then.
func TestWhoEndsSaysWhy(t *testing.T) {
	s := start(t, endAtOnce, "one\ntwo")
	if err := s.Send("files", make([]Item, batch+1)...); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive("texts"); !errors.Is(err, ErrGone) || err.Error() != "wait for texts: the other process is gone: one; two" {
		t.Errorf("receive: %v", err)
	}
	if how := s.End(true); how != "exit status 4" {
		t.Error(how)
	}

	s = start(t, endAtOnce, strings.Repeat("ä", maxText))
	_ = s.cmd.Wait() // ends with status 4
	want := "send files: the other process is gone: " + strings.Repeat("ä", (maxText-3)/2) + "..."
	if err := s.Send("files"); !errors.Is(err, ErrGone) || err.Error() != want {
		t.Errorf("send: %v", err)
	}
	if how := s.End(true); how != "exit status 4" {
		t.Error(how)
	}
}

func TestAProgramThatIsNotThere(t *testing.T) {
	if _, err := Start([]string{"/nonexistent"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestNobodysPredecessor asks what becomes of a variable that names no socket.
func TestNobodysPredecessor(t *testing.T) {
	for _, text := range []string{"x", "999"} {
		t.Setenv(variable, text)
		if p, err := Predecessor(); err == nil || p != nil {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

func TestTheEnvironmentOfASuccessor(t *testing.T) {
	t.Setenv(variable, "7")
	t.Setenv("WATCHDOG_PID", "1")
	t.Setenv("WATCHDOG_USEC", "1000")
	text := strings.Join(environment(), "\n")
	if strings.Contains(text, variable) || strings.Contains(text, "WATCHDOG_PID") || !strings.Contains(text, "WATCHDOG_USEC=1000") {
		t.Error(text)
	}
}
