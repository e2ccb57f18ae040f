package datapath

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A field is a value and its name in the configuration or, if it is not there,
// in the status.
type field struct{ name, value string }

// fieldChanges returns the fields that differ. Both lists have the same names.
func fieldChanges(now, then []field) []FieldChange {
	all := []FieldChange{}
	for i := range now {
		if now[i].value != then[i].value {
			all = append(all, FieldChange{now[i].name, now[i].value, then[i].value})
		}
	}
	return all
}

// fields returns what changes of the service in a row, which stays.
func (v *preview) fields(row uint32) []FieldChange {
	now, then := &v.have.services[row], &v.then.services[row]
	all := fieldChanges(serviceFields(now, v.have.names[row]), serviceFields(then, v.then.names[row]))
	if r := v.rules[row]; r.put+r.del > 0 {
		all = append(all, r.change("clients", "rules"))
	}
	all = v.slotFields(all, "slots", now, then)
	v.eachZone(now, then, func(name string, now, then *loader.Service) {
		all = v.slotFields(all, "slots of zone "+name, now, then)
	})
	return all
}

// slotFields adds what changes of the slots of a service or a zone.
func (v *preview) slotFields(all []FieldChange, field string, now, then *loader.Service) []FieldChange {
	up, upThen := v.have.at(now.Slots), v.then.at(then.Slots)
	if slices.Equal(up, upThen) && slices.Equal(v.have.at(now.SlotsAll), v.then.at(then.SlotsAll)) {
		return all
	}
	c := FieldChange{field, strconv.Itoa(len(up)), strconv.Itoa(len(upThen))}
	if c.From == c.To {
		c.To += ", others or in another order"
	}
	return append(all, c)
}

func serviceFields(s *loader.Service, name string) []field {
	forward, down, limit, cookies := model.ForwardDNAT, model.DownReset, "none", "none"
	if s.Flags&serviceFullNAT != 0 {
		forward = model.ForwardFullNAT
	}
	if s.Flags&serviceKeep != 0 {
		down = model.DownKeep
	}
	if s.Flags&serviceLimited != 0 {
		limit = fmt.Sprintf("%d/s of a /%d, burst %d", s.LimitRate, maskLength(loader.Address(s.LimitMask)), s.LimitBurst)
	}
	if s.CookieAbove > 0 {
		cookies = fmt.Sprintf("above %d/s", s.CookieAbove)
		if s.Flags&serviceCookies == 0 {
			cookies += ", none for now"
		}
	}
	rung := "xdp"
	if s.State == serviceProxy {
		rung = "proxy"
	}
	return append([]field{
		{"name", name},
		{"listen", listenText(s)},
		{"forward", string(forward)},
		{"rung", rung},
		{"local", strconv.FormatBool(s.Flags&serviceLocal != 0)},
		{"on-down", string(down)},
		{"clients.limit", limit},
		{"syn-cookies", cookies},
	}, choiceFields(s)...)
}

// A ruleCount says how many networks are in the lists of a service, and how
// many of them change.
type ruleCount struct{ have, put, del int }

func (r ruleCount) change(field, what string) FieldChange {
	return FieldChange{field, fmt.Sprintf("%d %s", r.have, what), fmt.Sprintf("%d new or changed, %d gone", r.put, r.del)}
}

// countRules counts the rules of all services, by row, and the networks of zones.
func (v *preview) countRules() {
	v.rules = map[uint32]ruleCount{}
	count := func(n network, add ruleCount) {
		c := v.rules[n.service]
		v.rules[n.service] = ruleCount{c.have + add.have, c.put + add.put, c.del + add.del}
	}
	for n := range v.have.clients {
		count(n, ruleCount{have: 1})
	}
	for n := range v.plan.clients.put {
		count(n, ruleCount{put: 1})
	}
	for _, n := range v.plan.clients.del {
		count(n, ruleCount{del: 1})
	}
}

// backendFields returns what changes of the backend in a row, which stays.
func (v *preview) backendFields(row uint32) []FieldChange {
	return fieldChanges(v.have.backendFields(row), v.then.backendFields(row))
}

func (r *rows) backendFields(row uint32) []field {
	b := &r.backends[row]
	state := "up"
	if b.State == backendDown {
		state = "down"
	}
	return []field{
		{"weight", strconv.Itoa(int(b.Weight))},
		{"state", state},
		{"sources", fmt.Sprint(addrsOf(r.sourcesAt(b.Sources)))},
	}
}

// A setting is a value of the control map that is to be another one.
type setting struct {
	FieldChange
	write func()
}

// differences returns the settings that c has otherwise.
func (t *Settings) differences(c *loader.ControlView) (all []setting) {
	add := func(name string, from, to any, write func()) {
		all = append(all, setting{FieldChange{name, fmt.Sprint(from), fmt.Sprint(to)}, write})
	}
	limit := uint32(t.ReplyLimit)
	if limit == 0 {
		limit = model.DefaultReplyLimit
	}
	if have := c.ReplyLimit(); have != limit {
		add("reply-limit", have, limit, func() { c.SetReplyLimit(limit) })
	}
	nat, from, n := t.sourcePorts()
	if first, last := c.SourcePorts(); first != nat.First || last != nat.Last {
		add("full-nat.ports", fmt.Sprintf("%d-%d", first, last), fmt.Sprintf("%d-%d", nat.First, nat.Last),
			func() { c.SetSourcePorts(nat.First, nat.Last) })
	}
	if first, have := c.MixedPorts(); first != from || have != n {
		add("full-nat.ports to IPv4", fmt.Sprintf("%d from %d on", have, first), fmt.Sprintf("%d from %d on", n, from),
			func() { c.SetMixedPorts(from, n) })
	}
	idle := t.Idle.WithDefaults()
	for i, d := range [loader.LBIdleIDLE_MAX]struct {
		name string
		want time.Duration
	}{
		loader.LBIdleIDLE_TCP_NEW:         {"tcp-new", idle.TCPNew},
		loader.LBIdleIDLE_TCP_ESTABLISHED: {"tcp-established", idle.TCPEstablished},
		loader.LBIdleIDLE_TCP_FIN:         {"tcp-fin", idle.TCPFin},
		loader.LBIdleIDLE_UDP_NEW:         {"udp-new", idle.UDPNew},
		loader.LBIdleIDLE_UDP_ESTABLISHED: {"udp-established", idle.UDPEstablished},
	} {
		have := c.Idle(loader.LBIdle(i))
		if have < d.want || have >= d.want+time.Second/time.Duration(max(1, c.Hz())) {
			add("timeouts."+d.name, have, d.want, func() { c.SetIdle(loader.LBIdle(i), d.want) })
		}
	}
	if have := c.LossAfter(); have != t.LossAfter {
		add("on-agent-loss", lossText(have), lossText(t.LossAfter), func() { c.SetLossAfter(t.LossAfter) })
	}
	return all
}

func lossText(after time.Duration) model.LossPolicy {
	if after == 0 {
		return model.LossKeep
	}
	return model.LossAllUp
}
