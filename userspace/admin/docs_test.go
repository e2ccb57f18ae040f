package admin

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/admin/adminpb"
)

// TestTheExamplesOfTheDocumentation runs the commands of docs/api.md, and compares
// what they print with what stands below.
func TestTheExamplesOfTheDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("FAIRLEAD_TEST_ROOT") == "1" {
			t.Fatalf("%v: scripts/setup.sh test installs it", err)
		}
		t.Skip(err)
	}
	w := serve(t)
	w.plane.set(func() {
		w.plane.history = revisions(1, 7)
		w.plane.view.Services[4].Backends[0].LastError = "timeout"
	})
	w.datapath.flows = make([]*adminpb.Flow, 2)
	examples := regexp.MustCompile("(?s)```sh\n(.*?)```\n\n```(?:json|text)\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if n := strings.Count(string(data), "```sh"); n < 12 || len(examples) != n {
		t.Fatalf("%d of %d examples have an answer; want 12 at least", len(examples), n)
	}
	for _, x := range examples {
		got := shell(t, strings.ReplaceAll(x[1], "/run/fairlead/admin.sock", w.socket))
		if diff := cmp.Diff(values(t, x[2]), values(t, got)); diff != "" {
			t.Errorf("%s-want +got\n%s", x[1], diff)
		}
	}
}

// shell runs commands and returns what they print.
func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("bash", "-c", script).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// values returns the values of JSON in text, or else the text without blanks around
// it.
func values(t *testing.T, text string) (all []any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			return []any{strings.TrimSpace(text)}
		}
		all = append(all, v)
	}
}
