package daemon

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/userspace/state"
	"fairlead/userspace/view"
)

// TestTheEndIsKept has an agent see the same until its end: the next one is to know
// that somebody looked until then.
func TestTheEndIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := openLent(t.Context(), state.Off, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		a := &agent{plane: &plane{store: store}}
		a.latest.Store(&view.View{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.remember(ctx)
		}()
		begin := time.Now()
		time.Sleep(time.Hour)
		if data, at, err := store.Kept(t.Context(), lastName); data == nil || !at.Equal(begin.Add(lastEvery)) || err != nil {
			t.Errorf("kept %q at %v, %v, want it once", data, at, err)
		}
		stop()
		<-ended
		if _, at, err := store.Kept(t.Context(), lastName); !at.Equal(begin.Add(time.Hour)) || err != nil {
			t.Errorf("kept at %v, %v, want it at the end, %v", at, err, begin.Add(time.Hour))
		}
	})
}
