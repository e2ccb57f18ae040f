package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"fairlead/userspace/handover"
	"fairlead/userspace/supervise"
	"fairlead/userspace/udpproxy"
	"fairlead/userspace/view"
)

// How long a successor may take until its configuration is read, and until it serves
// then. The loop stands still meanwhile, and nobody learns of changes of health.
const (
	prepareTime = time.Minute
	serveTime   = 30 * time.Second
)

// handOver starts a successor, by the command line of this process, and reports
// whether that serves by now. If not, the agent goes on as before. What an agent
// consists of runs until inner is done.
func (a *agent) handOver(ctx, inner context.Context, orders <-chan os.Signal) bool {
	a.log.Info("starting a successor", "program", os.Args[0])
	a.send(inner, func() { a.report(supervise.Reloading()) })
	s, err := handover.Start(os.Args)
	if err == nil {
		if err = a.guide(ctx, inner, s); err != nil {
			err = fmt.Errorf("%w: process %d: %s", err, s.PID(), s.End(errors.Is(err, handover.ErrGone)))
		}
	}
	if err != nil {
		a.log.Error("no successor, this process goes on", "err", err)
		a.send(inner, func() { a.report(supervise.Ready) })
		return false
	}
	select {
	case order := <-orders: // which this process obeys no more
		_ = s.Signal(order)
	default:
	}
	s.Release()
	return true
}

// guide brings a successor to where it serves. After an error it is to be ended.
func (a *agent) guide(ctx, inner context.Context, s *handover.Successor) error {
	defer context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })()
	s.SetDeadline(time.Now().Add(prepareTime))
	handed := map[string]syscall.Conn{}
	items, err := a.sockets.hand(handed)
	if err != nil {
		return err
	}
	err = s.Send(stepSockets, items...)
	handover.Close(items)
	if err != nil {
		return err
	}
	if _, err := s.Receive(stepPrepared); err != nil {
		return err
	}
	err = errEnding
	a.plane.pause(ctx, func(inner context.Context) {
		err = a.do(inner, func() error { return a.stepAside(inner, s, handed) })
	})
	return err
}

// stepAside lets a successor take over, and stands down once it serves. After an
// error the agent has everything in hand again. It has got the sockets of handed before.
func (a *agent) stepAside(ctx context.Context, s *handover.Successor, handed map[string]syscall.Conn) error {
	a.collecting.Lock()
	defer a.collecting.Unlock()
	late, err := a.sockets.hand(handed) // of changes that were made meanwhile
	if err != nil {
		return err
	}
	defer handover.Close(late)
	if err := a.holder.use(nil); err != nil { // two cannot read what the kernel hands out once
		a.log.Warn("let go of fragments", "err", err)
	}
	a.flowLog.follow(false)
	if err := a.plane.store.lend(ctx); err != nil {
		a.log.Error("let go of the state", "err", err)
	}
	s.SetDeadline(time.Now().Add(serveTime))
	served := make(chan error, 1)
	go func() {
		err := s.Send(stepTurn, a.turn(late)...)
		if err == nil {
			_, err = s.Receive(stepServing)
		}
		served <- err
	}()
	if err := a.awaitAlive(served); err != nil {
		s.End(errors.Is(err, handover.ErrGone)) // before it can do more
		a.resume(ctx)
		return err
	}
	a.standDown(s)
	return nil
}

// awaitAlive waits for a result, and tells the service manager that this is no hang.
func (a *agent) awaitAlive(result <-chan error) error {
	due, stop := watchdog()
	defer stop()
	for {
		select {
		case err := <-result:
			return err
		case <-due:
			a.report(supervise.Watchdog)
		}
	}
}

// turn returns what a successor needs to know when it is its turn, and late sockets.
func (a *agent) turn(late []handover.Item) (items []handover.Item) {
	for _, item := range late {
		items = append(items, handover.Item{Text: itemSocket + item.Text, File: item.File})
	}
	if a.lock != nil {
		items = append(items, handover.Item{Text: itemLock, File: a.lock.File()})
	}
	for _, t := range a.roster.targets {
		key := t.Key()
		status, ok := a.checker.Status(t)
		switch {
		case ok && !status.Up: // perhaps not by its own probes
			items = append(items, handover.Item{Text: itemDown + digestOf(key)})
		case ok && status.Known:
			items = append(items, handover.Item{Text: itemUp + digestOf(key)})
		}
	}
	return items
}

// resume takes back what a successor may have taken that is gone.
func (a *agent) resume(ctx context.Context) {
	if err := a.plane.store.takeBack(ctx); err != nil {
		a.log.Error("open the state again: changes are refused until that works", "err", err)
	}
	a.added = nil
	if err := a.inheritAddresses(); err != nil {
		a.log.Warn("take service addresses over", "err", err)
	}
	if a.kernel != nil {
		a.attachAnew(ctx, "a successor has failed")
	} else {
		a.keepAddresses()
	}
	a.sign()
}

// standDown leaves everything but what the proxies of TCP serve to a successor that
// serves by now.
func (a *agent) standDown(s *handover.Successor) {
	a.handed, a.leaving, a.owns = true, true, false
	a.sockets.end()
	a.pulse.Store(nil)
	if err := a.standby.use(nil); err != nil {
		a.log.Warn("let go of standby flows", "err", err)
	}
	a.doors.yield(a.log)
	items := a.handFlows()
	a.report(fmt.Sprintf("MAINPID=%d", s.PID()), supervise.Ready)
	s.SetDeadline(time.Now().Add(flowsTime))
	if err := s.Send(stepFlows, items...); err != nil {
		a.log.Warn("hand udp flows over", "err", err)
	}
	handover.Close(items)
	a.log.Info("a successor serves", "pid", s.PID(), "udp flows", len(items))
}

// handFlows ends the proxies of UDP and returns their flows.
func (a *agent) handFlows() (items []handover.Item) {
	var mu sync.Mutex
	take := func(h udpproxy.Handed) {
		text, err := json.Marshal(handedFlow{h.Client, h.Local, h.Backend})
		if err != nil {
			a.log.Warn("hand udp flows over", "err", err)
			h.Socket.Close()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		items = append(items, handover.Item{Text: string(text), File: h.Socket})
	}
	var fronts []*front
	for _, f := range a.fronts {
		if f.udp != nil {
			f.udp.HandOver(take)
			fronts = append(fronts, f)
		}
	}
	endFronts(fronts)
	return items
}

// leaveLock lets go of a lock that another process has, too.
func (a *agent) leaveLock() {
	if a.lock == nil {
		return
	}
	if err := a.lock.Leave(); err != nil {
		a.log.Warn("let go of lock", "err", err)
	}
	a.lock = nil
}

// yield leaves what proxies of TCP listen on to a successor that serves, in the background:
// nothing new is to come by a state that changes no more. Connections end, or are cut when
// the grace is over.
func (a *agent) yield() {
	for _, f := range a.fronts {
		if f.http != nil {
			f.http.proxy.Yield(a.opts.Grace / 2)
		}
	}
	a.yielding.Go(func() { a.endProxies(slices.Collect(maps.Values(a.fronts))) })
}

// retire ends what a process does once its successor serves, and waits for connections.
func (a *agent) retire() error {
	a.leaveLock()
	a.flowLog.close() // of the kernel's flows, which are the successor's
	errs := []error{a.doors.close()}
	a.yielding.Wait()
	a.closePools()
	errs = append(errs, a.close())
	if v, err := view.Read(a.opts.RunDir); err == nil && v.PID == os.Getpid() {
		errs = append(errs, view.Remove(a.opts.RunDir)) // the successor's is elsewhere
	}
	return errors.Join(errs...)
}
