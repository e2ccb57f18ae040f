package refmodel

// An Event says that a flow has begun or ended: rule 15.
type Event struct {
	Time       uint64 // CLOCK_MONOTONIC, ns
	Kind       EventKind
	Key        Tuple // client, and what it connected to
	Dst        Addr  // backend
	DPort      uint16
	Service    uint32
	ServiceGen uint32
	Backend    uint32
	BackendGen uint32
	State      uint8
}

// An EventKind says what has become of a flow.
type EventKind uint8

// Kinds, numbered as enum event_kind.
const (
	EventBegin EventKind = iota + 1
	EventOver
	EventEvicted
	EventDeleted
)

// Counts of events, numbered as enum event_count.
const (
	EventsBegun = iota
	EventsEnded
	EventsBegunLost
	EventsEndedLost
	EventsMax
)

// connects says that an entry is a connection: rule 7.
func (f *Flow) connects() bool { return f.Dir == Forward && !f.over() }

// forget removes the entry of a key, and tells that its flow ends by that.
func (m *Model) forget(key Tuple) {
	if f := m.Find(key); f != nil {
		m.Remove(key)
		m.gone(f, EventDeleted)
	}
}

// gone tells of a flow whose entry is in the table no more.
func (m *Model) gone(f *Flow, why EventKind) {
	if f.connects() {
		m.tell(f, why)
	}
}

// came tells of a flow that begins by an entry.
func (m *Model) came(f *Flow) {
	if f.connects() {
		m.tell(f, EventBegin)
	}
}

// turned tells of a flow that has ended, or gone on, by what was done to its entry.
func (m *Model) turned(f *Flow, was bool) {
	switch is := f.connects(); {
	case is && !was:
		m.tell(f, EventBegin)
	case was && !is:
		m.tell(f, EventOver)
	}
}

// tell writes an event, if the flow is one that is told of, and there is room.
func (m *Model) tell(f *Flow, kind EventKind) {
	if m.EventSample == 0 || m.hash(f.Key)%uint64(m.EventSample) != 0 {
		return
	}
	count := EventsEnded
	if kind == EventBegin {
		count = EventsBegun
	}
	if m.Unread >= m.EventRoom {
		m.EventCounts[count+EventsBegunLost]++
		return
	}
	m.EventCounts[count]++
	m.Unread++
	m.Events = append(m.Events, Event{
		Time: m.Clock, Kind: kind, Key: f.Key, Dst: f.Leave.Dst, DPort: f.Leave.DPort,
		Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen, State: f.State,
	})
}
