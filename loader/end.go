package loader

import "sync/atomic"

// End makes an entry one of a flow that is over: TCP's next packet is answered with a
// reset. It does what the kernel does to the flows of a backend that is down, unless
// the entry has changed, had a packet in another tick, or gone since e was read, and
// reports whether it did.
func (t *FlowTable) End(e Entry) bool {
	over := e.Stamp
	over.Life = e.Life&^(stateMask<<stateShift) | uint8(LBFlowStateFLOW_RESET)<<stateShift
	if !atomic.CompareAndSwapUint64(e.at, e.word(), over.word()) {
		return false
	}
	t.disconnect(&e)
	return true
}

// disconnect counts a connection less, if the entry was one.
func (t *FlowTable) disconnect(e *Entry) {
	if e.connects() {
		t.ofBackends.add(e.Backend, e.BackendGen, -1)
		t.ofServices.add(e.Service, e.ServiceGen, -1)
	}
}
