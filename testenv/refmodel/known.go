package refmodel

// known is rule 2: a packet whose flow counts. Not done says that its entry is
// gone and that the packet goes on as one without a flow.
func (m *Model) known(p *packet, f *Flow) (res Result, done bool) {
	again := p.pureSYN() && f.Dir == Forward // a client starts anew
	switch {
	case p.bad:
		return verdict(DropMalformed), true
	case p.ttl <= 1 && f.Dir == Reply && !f.mixed():
		return m.expired(p, f.Leave.Src), true
	case p.ttl <= 1:
		return m.expired(p, p.tuple.Dst), true
	case f.State == FlowReset && p.rst():
		m.forget(p.tuple)
		return verdict(DropFlowEnded), true
	case f.State == FlowReset && !again:
		return m.ended(p), true
	case again && f.over():
		m.deleteBoth(p.tuple)
		return res, false
	}
	if m.due(f) || f.disguised() && f.State != FlowEstablished {
		if res, next := m.check(p, f); next != goOn {
			return res, next == stop
		}
	}
	m.live(p, f)
	f.Seen = m.Now
	return m.forward(p, f), true
}

// ended answers a packet of a flow that is over, once.
func (m *Model) ended(p *packet) Result {
	res := m.answerReset(p, DropReplyLimit)
	if res.Verdict == AnswerReset {
		m.forget(p.tuple)
	}
	return res
}

// next is what follows a check.
type next int

const (
	goOn next = iota // the flow is good
	stop             // the result stands
	anew             // the flow is gone, the packet goes on with rule 3
)

// check is step 5.
func (m *Model) check(p *packet, f *Flow) (Result, next) {
	if res, next := m.checkRows(p, f); next != goOn {
		return res, next
	}
	twinLives, lost := m.checkTwin(p, f)
	if lost {
		m.forget(p.tuple)
		if p.tuple.Proto == UDP || p.rst() {
			return verdict(DropFlowEnded), stop
		}
		return m.answerReset(p, DropReplyLimit), stop
	}
	if !twinLives && f.disguised() {
		return verdict(DropTableFull), stop
	}
	if v, ok := m.checkRoute(f); !ok {
		return verdict(v), stop
	}
	f.Checked = m.Now
	f.Epoch = m.Control.Epoch
	f.Idle = m.timeout(p.tuple.Proto, f.State)
	if twinLives {
		m.Find(f.TwinKey()).Idle = f.Idle
	}
	return Result{}, goOn
}

// checkRows is steps 5.1 to 5.4: do service and backend still exist.
func (m *Model) checkRows(p *packet, f *Flow) (Result, next) {
	gone, down := m.judge(f)
	if !gone && !down {
		return Result{}, goOn
	}
	if p.tuple.Proto == UDP {
		m.deleteBoth(p.tuple)
		if f.Dir == Forward {
			return Result{}, anew
		}
		return verdict(DropFlowEnded), stop
	}
	if p.pureSYN() && f.Dir == Forward && (gone || f.State == FlowNew || f.State == FlowAnswered) {
		m.deleteBoth(p.tuple)
		return Result{}, anew
	}
	if p.rst() {
		m.deleteBoth(p.tuple)
		return verdict(DropFlowEnded), stop
	}
	m.both(f, func(f *Flow) {
		was := f.connects()
		defer func() { m.turned(f, was) }()
		f.State = FlowReset
		f.Idle = m.Control.Idle[IdleTCPFin]
		f.Seen = m.Now
	})
	return m.ended(p), stop
}

// judge is step 5.1.
func (m *Model) judge(f *Flow) (gone, down bool) {
	s, b := m.service(f.Service), m.backend(f.Backend)
	gone = s.State == ServiceNone || s.Gen != f.ServiceGen ||
		b.State == BackendNone || b.Gen != f.BackendGen || b.Service != f.Service
	down = !gone && b.State == BackendDown && s.Flags&FlagKeep == 0 && !m.allUp()
	return gone, down
}

// checkTwin is step 5.5. lives says that the twin named the entry or was made
// again, lost that it belongs to another live flow.
func (m *Model) checkTwin(p *packet, f *Flow) (lives, lost bool) {
	t, named := m.twin(f)
	if named {
		t.Seen = m.Now
		return true, false
	}
	if t != nil {
		if m.holds(t) {
			return false, true
		}
		m.deleteBoth(t.Key)
	}
	f.Seen = m.Now // so that it does not give its place to its own twin
	_, hop := m.wayBack(p)
	again := *f
	again.Key = f.TwinKey()
	again.Leave = f.Key.Reverse()
	again.Leads(hop)
	again.Dir = 1 - f.Dir
	again.Checked = m.Now
	again.Epoch = m.Control.Epoch
	switch m.insert(again) {
	case made:
		return true, false
	case exists: // another CPU may have made it
		t, named := m.twin(f)
		return named && m.counts(t), false
	}
	return false, false
}

// holds says that an entry keeps its tuple from others.
func (m *Model) holds(f *Flow) bool {
	return m.counts(f) && !f.over()
}

// checkRoute is step 5.6.
func (m *Model) checkRoute(f *Flow) (Verdict, bool) {
	answer, hop, usable := m.route(f.Leave.Src, f.Leave.Dst)
	switch {
	case usable:
		f.Leads(hop)
	case f.Dir == Reply || answer == FIBNoNeigh:
	case answer == FIBSuccess:
		return DropDevice, false
	default:
		return DropNoRoute, false
	}
	return 0, true
}
