package lbtest

import (
	"os"
	"strings"
	"testing"

	"fairlead/loader"
)

// TestEachOddPacketHasARow reads the last table of the rules.
func TestEachOddPacketHasARow(t *testing.T) {
	text, err := os.ReadFile("../../docs/datapath.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]loader.Verdict{}
	for _, r := range rows() {
		want[r.name] = r.want
	}
	_, table, _ := strings.Cut(string(text), "\n| Packet | Verdict | Row | Why |\n|---|---|---|---|\n")
	lines := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 4 {
			break
		}
		lines++
		verdict, known := want[cells[2]]
		if got := strings.ToUpper(verdict.String()); !known || got != cells[1] {
			t.Errorf("%s: row %q ends in %s (known: %t), want %s", cells[0], cells[2], got, known, cells[1])
		}
	}
	if lines < 40 {
		t.Errorf("the table has %d lines", lines)
	}
}
