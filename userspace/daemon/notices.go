package daemon

import (
	"time"

	"fairlead/userspace/balance"
	"fairlead/userspace/model"
	"fairlead/userspace/notify"
)

// noticeHealth tells those who want to know of the backends that a check has found
// up or down.
func (a *agent) noticeHealth(key string) {
	if !a.notices.Wanted() {
		return
	}
	status, _ := a.checker.StatusOf(key)
	for _, i := range a.roster.services[key] {
		s := a.roster.groups[i]
		for b, k := range a.roster.checks[s.Key()] {
			if k != key {
				continue
			}
			e := notify.Event{Time: time.Now(), Service: s.ShownName(), Backend: s.Backends[b].String(), Name: s.Backends[b].Name.Host, State: "up"}
			if !status.Serves() {
				e.State, e.Reason = "down", status.LastError
			}
			if status.Up && status.Word.Out() {
				e.Reason = "its agent says so"
			}
			a.notices.Tell(e)
		}
	}
}

// noticeServing tells those who want to know which backends of services serve now,
// if these are others than a second ago.
func (a *agent) noticeServing() {
	if !a.notices.Wanted() {
		return
	}
	now := map[model.Key]model.Serving{}
	for _, s := range a.roster.groups {
		if s.Listen.IsValid() && (s.Forward == model.ForwardHTTP || s.Forward == model.ForwardTLS) {
			continue // its pools have the backends
		}
		key := s.Key()
		now[key] = balance.DutyOf(s, s.Zone, a.down(s), a.sharesOf(s)).Serving
		if was, known := a.served[key]; known && was != now[key] {
			a.notices.Tell(notify.Event{Time: time.Now(), Service: s.ShownName(), State: string(now[key])})
		}
	}
	a.served = now
}
