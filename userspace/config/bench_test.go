package config

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkChange(b *testing.B) {
	var s strings.Builder
	s.WriteString("xdp: off\nservices:\n")
	for i := range 20 {
		fmt.Fprintf(&s, "  - {name: s%d, listen: '203.0.113.10:%d', forward: proxy, backends: [{address: '10.0.0.1:80'}, {address: '10.0.0.2:80'}, {address: '10.0.0.3:80'}], health: {type: tcp, interval: 1s}}\n", i, 100+i)
	}
	base := NewTree("f", []byte(s.String()))
	var list = NewDraft(base, nil)
	for i := range 20 {
		list.Add(edit(fmt.Sprintf("set-weight s%d 10.0.0.1:80 5", i)))
	}
	for b.Loop() {
		d := NewDraft(base, list.Edits())
		if err := d.Add(edit("set-weight s3 10.0.0.1:80 6")); err != nil {
			b.Fatal(err)
		}
		t, _ := d.Tree()
		if _, err := t.State(false); err != nil {
			b.Fatal(err)
		}
	}
}
