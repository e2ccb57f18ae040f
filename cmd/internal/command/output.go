package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// OutputFlag chooses between a table and JSON; see [JSON].
func OutputFlag() cli.Flag {
	f := Choice("output", "table", "print in `FORMAT`: table or json", "table", "json")
	f.Aliases = []string{"o"}
	return f
}

// JSON reports whether [OutputFlag] asks for JSON.
func JSON(c *cli.Context) bool { return c.String("output") == "json" }

// WriteJSON prints v in lines that people can read too.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// WriteTable prints rows in columns under titles. An empty cell is "-".
func WriteTable(w io.Writer, titles []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	writeRow(t, titles)
	for _, r := range rows {
		writeRow(t, r)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// writeRow writes to a tabwriter, which keeps its errors for Flush.
func writeRow(w io.Writer, cells []string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// Bytes returns n in words, such as "1.5 MiB".
func Bytes(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), -1
	for v >= 1024 && unit < 3 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGT"[unit])
}
