package lbtest

import (
	"fmt"
	"maps"
	"os"

	"fairlead/loader"
)

// events counts those that were written and lost, and each that is in the ring.
func (w *world) events(add func(name string, by uint64)) {
	w.tb.Helper()
	for kind, sum := range w.sums(loader.LBMapEventCounts) {
		add([]string{"events begun", "events ended", "events begun lost", "events ended lost"}[kind%4], sum)
	}
	events, err := w.Events(false)
	w.must(err)
	for _, e := range events {
		add(eventName(e), 1)
	}
}

func eventName(e loader.Event) string { return fmt.Sprintf("event %+v", e) }

// listening has one of so many flows told of.
func listening(sample uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.put(loader.LBMapEventSample, uint32(0), sample)
	}
}

// eventOf is what is told of the client's flow to a backend.
func eventOf(kind loader.EventKind, state loader.LBFlowState, row uint32) loader.Event {
	back := map[uint32]loader.Event{
		2: {Backend: loader.AddressOf(back1.Addr()), BackendPort: port16(back1.Port())},
		3: {Backend: loader.AddressOf(back2.Addr()), BackendPort: port16(back2.Port())},
	}[row]
	back.Time, back.Kind, back.State, back.Proto = 1e9, uint8(kind), uint8(state), tcp
	back.Client, back.ClientPort = loader.AddressOf(client.Addr()), port16(client.Port())
	back.Virtual, back.VirtualPort = loader.AddressOf(web.Addr()), port16(web.Port())
	back.Service, back.ServiceGen, back.BackendRow, back.BackendGen = 1, 71, row, 20+row
	return back
}

// announcing is a row whose packet is also told of.
func (r row) announcing(events ...loader.Event) row {
	r.counts = maps.Clone(r.counts)
	if r.counts == nil {
		r.counts = map[string]uint64{}
	}
	for _, e := range events {
		r.counts[eventName(e)]++
		if loader.EventKind(e.Kind) == loader.LBEventKindEVENT_BEGIN {
			r.counts["events begun"]++
		} else {
			r.counts["events ended"]++
		}
	}
	return r
}

// turning makes and undoes ends of the client's flow until the ring is full.
func turning(w *world) {
	w.tb.Helper()
	for range EventRoom(os.Getpagesize())/2 + 1 {
		w.send(segment(client, web, rst), segment(client, web, ack))
	}
}

// leftOut is a sample that the client's flow is not in.
func leftOut() uint32 {
	n := uint32(2)
	for hashOf(flowKey(tcp, client, web))%uint64(n) == 0 {
		n++
	}
	return n
}

// eventRows are about what is told of flows: rule 15.
func eventRows() []row {
	const (
		begin, over, evicted, deleted = loader.LBEventKindEVENT_BEGIN, loader.LBEventKindEVENT_OVER, loader.LBEventKindEVENT_EVICTED, loader.LBEventKindEVENT_DELETED
		fresh, established, closed    = loader.LBFlowStateFLOW_NEW, loader.LBFlowStateFLOW_ESTABLISHED, loader.LBFlowStateFLOW_CLOSED
		reset, aborted                = loader.LBFlowStateFLOW_RESET, loader.LBFlowStateFLOW_ABORTED_FORWARD
	)
	all := listening(1)
	listens := then(all, answered, silence)
	opens := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: segment(client, web, syn), out: toBackend(back1, syn), egress: uplink, counts: made("2", 48)}
	begins := eventOf(begin, fresh, 2)
	place := spotOf(flowKey(tcp, client, web)).first
	stranger := loader.Event{Time: 1e9, Kind: uint8(evicted), State: uint8(established), Proto: 99, Client: mappedWord(place), Virtual: mappedWord(0), Backend: mappedWord(0)}
	evicts := opens.announcing(stranger, begins)
	evicts.counts["evicted silent"] = 1
	lost := forwarded(rst).as("an event that finds no room is lost, and counted", then(all, answered, turning))
	lost.counts["events ended lost"] = 1
	return []row{
		opens.as("nobody is told of flows if nobody listens", listening(0)),
		opens.announcing(begins).as("a flow that begins is told of", all),
		opens.as("a flow that is not of the sample is not told of", listening(leftOut())),
		replied(syn|ack).as("a backend's answer is no news", then(all, opened, silence)),
		forwarded(rst).announcing(eventOf(over, aborted, 2)).as("a client ends a flow", listens),
		replied(rst).announcing(eventOf(over, loader.LBFlowStateFLOW_ABORTED_REPLY, 2)).telling(loader.LBTroubleTROUBLE_RESET).as("a backend ends a flow", listens),
		replied(fin|ack).announcing(eventOf(over, closed, 2)).as("both sides end a flow", then(all, answered, sends(segment(client, web, fin|ack)), silence)),
		forwarded(ack).announcing(eventOf(begin, established, 2)).as("a flow whose reset was forged begins again", then(all, answered, sends(segment(client, web, rst)), silence)),
		ended("a flow whose backend is down is over", then(all, answered, backendDown, silence)).announcing(eventOf(over, reset, 2)),
		reopened().announcing(eventOf(deleted, fresh, 2), eventOf(begin, fresh, 3)).as("a flow that is silent for too long ends when its tuple is used again",
			then(all, opened, waits(now+tcpNew+1), silence)),
		evicts.as("a flow that gives way has ended", then(crowded(web, true, true, state(established, 60*hz)), all)),
		lost,
	}
}

// mappedWord is an address of four bytes.
func mappedWord(a uint32) loader.Address {
	return loader.Address{Word: [4]uint32{2: 0xffff0000, 3: a}}
}

// silence has what was told so far read.
func silence(w *world) {
	w.tb.Helper()
	_, err := w.Events(true)
	w.must(err)
}
