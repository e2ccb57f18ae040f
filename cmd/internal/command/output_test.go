package command

import (
	"bytes"
	"errors"
	"testing"
)

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 34 << 20: "34.0 MiB", 5 << 30: "5.0 GiB", 7 << 40: "7.0 TiB", 3 << 50: "3072.0 TiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestWriteTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, []string{"A", "LONG", "C"}, [][]string{{"1", "2", "3"}, {"wide one", "", ""}}); err != nil {
		t.Fatal(err)
	}
	want := "A         LONG  C\n1         2     3\nwide one  -     -\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestPrintingIntoAFullDiskIsAnError(t *testing.T) {
	if err := WriteTable(full{}, []string{"A"}, nil); !errors.Is(err, errFull) {
		t.Errorf("table: %v", err)
	}
	if err := WriteJSON(full{}, 1); !errors.Is(err, errFull) {
		t.Errorf("JSON: %v", err)
	}
}
