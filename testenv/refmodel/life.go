package refmodel

// live is the life of a flow, step 6.
func (m *Model) live(p *packet, f *Flow) {
	m.notice(p, f)
	state, fins := afterPacket(p, f)
	if p.rst() {
		state, fins = afterReset(f), f.Fins
	}
	twin, named := m.twin(f)
	if f.Dir == Reply && p.tuple.Proto == TCP && p.isAnswer(f.State) {
		f.Answer = p.seq
		if p.flags&SYN != 0 {
			f.Answer++
		}
		if named {
			twin.Answer = f.Answer
		}
	}
	if state == f.State && fins == f.Fins {
		return
	}
	m.become(p, f, state, fins)
	if named {
		both := fins | twin.Fins
		if both == 1<<Forward|1<<Reply {
			state = FlowClosed
		}
		m.become(p, twin, state, both)
	}
}

// notice counts what may be a sign that the backend is in trouble: rule 7.
func (m *Model) notice(p *packet, f *Flow) {
	troubles := &m.counters(f).Troubles
	switch {
	case f.Dir == Forward && f.State == FlowNew && p.tuple.Proto == TCP && p.pureSYN():
		troubles[TroubleUnanswered]++
	case f.Dir == Forward || !p.rst():
	case f.State == FlowNew && p.flags&ACK != 0:
		troubles[TroubleRefused]++
	case f.State == FlowEstablished:
		troubles[TroubleReset]++
	}
}

func (m *Model) become(p *packet, f *Flow, state, fins uint8) {
	was := f.connects()
	defer func() { m.turned(f, was) }()
	f.State = state
	f.Fins = fins
	f.Idle = m.timeout(p.tuple.Proto, state)
}

// abortedBy is the state that a reset in this direction leads to.
func abortedBy(dir uint8) uint8 {
	if dir == Forward {
		return FlowAbortedForward
	}
	return FlowAbortedReply
}

// afterReset is the state after a reset: either side may have sent it, or
// somebody in its name.
func afterReset(f *Flow) uint8 {
	switch f.State {
	case FlowNew, FlowAnswered:
		return FlowClosed
	case FlowEstablished, FlowFin:
		return abortedBy(f.Dir)
	case abortedBy(1 - f.Dir):
		return FlowClosed
	}
	return f.State
}

// afterPacket is what follows any other packet.
func afterPacket(p *packet, f *Flow) (state, fins uint8) {
	state, fins = f.State, f.Fins
	tcp := p.tuple.Proto == TCP
	if tcp && p.flags&SYN == 0 && state == abortedBy(f.Dir) { // the reset was forged
		state = FlowEstablished
		if fins != 0 {
			state = FlowFin
		}
	}
	switch {
	case f.Dir == Reply && state == FlowNew && (!tcp || p.flags&ACK != 0):
		state = FlowAnswered
	case f.Dir == Forward && state == FlowAnswered && (!tcp || p.flags&(SYN|ACK) == ACK && p.ack-f.Answer <= 65535):
		state = FlowEstablished
		if fins != 0 {
			state = FlowFin
		}
	}
	if tcp && p.flags&FIN != 0 {
		fins |= 1 << f.Dir
		switch {
		case fins == 1<<Forward|1<<Reply:
			state = FlowClosed
		case state == FlowEstablished:
			state = FlowFin
		}
	}
	return state, fins
}

// isAnswer says that a backend's segment is the one that the client of a flow in
// this state has to acknowledge.
func (p *packet) isAnswer(state uint8) bool {
	switch state {
	case FlowNew:
		return p.flags&(SYN|ACK) == SYN|ACK || p.flags&(ACK|RST) == ACK
	case FlowAnswered:
		return p.flags&(SYN|ACK) == SYN|ACK
	}
	return false
}

// both changes an entry, and its twin if that names it.
func (m *Model) both(f *Flow, change func(*Flow)) {
	if t, named := m.twin(f); named {
		change(t)
	}
	change(f)
}
