package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"fairlead/testenv/leak"
	"fairlead/userspace/control"
)

// childDir is the environment variable that makes the test binary a process which
// appends to the store in a directory until it is killed.
const childDir = "FAIRLEAD_STATE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, appendForEver(dir))
		os.Exit(1)
	}
	leak.Each(m).Run()
}

// appendForEver prints the number of each revision that is kept.
func appendForEver(dir string) error {
	ctx := context.Background()
	f, broken, err := OpenFile(dir)
	if broken != nil || err != nil {
		return errors.Join(broken, err)
	}
	h, err := NewHistory(ctx, f, 300)
	if err != nil {
		return err
	}
	for {
		_, last := h.Bounds()
		if err := h.Append(ctx, []Step{numbered(last + 1)}); err != nil {
			return err
		}
		fmt.Println(last + 1)
	}
}

// numbered returns a step all of whose parts say which it is.
func numbered(n uint64) Step {
	document := fmt.Append(nil, "document ", n/10)
	return Step{
		Revision: control.Revision{Time: time.Unix(int64(n), 0).UTC(), Who: fmt.Sprint("revision ", n)},
		Config:   Config{Base: Digest(document), Edits: []control.Edit{weight("a", int(n)), weight("b", int(n/7))}}, Document: document,
	}
}
