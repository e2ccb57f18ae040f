package state

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatWasKeptSurvivesAKill(t *testing.T) {
	rounds := 4
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		rounds = 300
	}
	dir := t.TempDir()
	var kept uint64
	for range rounds {
		said := killed(t, dir)
		if said < kept {
			t.Fatalf("revision %d was said after %d", said, kept)
		}
		kept = checked(t, dir, said)
	}
}

// killed has a process append until it is killed some time after its first word, and
// returns the last number that it said.
func killed(t *testing.T, dir string) (said uint64) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	more := rand.N(40)
	for lines := bufio.NewScanner(out); lines.Scan(); more-- {
		if said, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Error(err)
		}
		if more == 0 {
			time.AfterFunc(rand.N(10*time.Millisecond), func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // says that it was killed
	return said
}

// checked looks at what is there after a process has said a number, and returns the
// last revision.
func checked(t *testing.T, dir string, said uint64) (last uint64) {
	t.Helper()
	h, f := opened(t, dir)
	defer f.Close()
	first, last := h.Bounds()
	if last < said || last > said+1 {
		t.Errorf("revision %d is the last, %d was kept", last, said)
	}
	all, err := h.Range(t.Context(), first, last)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		want := numbered(k.Entry.Number)
		if diff := cmp.Diff(want.Config, k.Config); diff != "" || k.Entry.Who != want.Revision.Who {
			t.Fatalf("revision %d by %s: -want +got:\n%s", k.Entry.Number, k.Entry.Who, diff)
		}
		if document, err := h.Document(t.Context(), k.Config.Base); err != nil || string(document) != fmt.Sprint("document ", k.Entry.Number/10) {
			t.Fatalf("document of revision %d: %q, %v", k.Entry.Number, document, err)
		}
	}
	return last
}
