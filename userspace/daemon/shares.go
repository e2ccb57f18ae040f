package daemon

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"fairlead/userspace/balance"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
)

// A member is a backend of a service, which may have other ports by now but the
// first.
type member struct {
	service model.Key
	backend netip.AddrPort
}

func memberOf(s *model.Service, backend netip.AddrPort) member {
	key := s.Key()
	key.LastPort = 0
	return member{key, backend}
}

// shares say how much of its weight each backend has by now, where that is not
// all of it: the slow start of those that have come, and how quick their probes
// are where that counts.
type shares struct {
	joined map[member]time.Time // who starts slowly, since when
	quick  map[member]int       // of services that go by the response time
	loads  map[member]float64   // from 0 to 1; of pools that go by what backends say
	now    map[model.Key][]int  // as last told; absent: whole ones
}

func newShares() *shares {
	return &shares{joined: map[member]time.Time{}, quick: map[member]int{}, loads: map[member]float64{}, now: map[model.Key][]int{}}
}

// join lets a backend of a service start, slowly if the service has it so.
func (x *shares) join(s *model.Service, backend netip.AddrPort) {
	if s.SlowStart > 0 {
		x.joined[memberOf(s, backend)] = time.Now()
	}
}

// arrive lets backends start that were not in a service before, unless the
// service is new itself.
func (x *shares) arrive(state, before *model.State) {
	old := map[model.Key]*model.Service{}
	for _, s := range before.Groups() {
		old[s.Key()] = s
	}
	for _, s := range state.Groups() {
		was := old[s.Key()]
		if was == nil {
			continue
		}
		for _, b := range s.Backends {
			if !slices.ContainsFunc(was.Backends, func(o model.Backend) bool { return o.Address == b.Address && !o.Leaving }) {
				x.join(s, b.Address)
			}
		}
	}
}

// off is how many steps the share of a response time must be off before another
// takes its place: probes never take the same time twice.
const off = 2

// measure takes over how long the probes of a service's backends take; it is
// called at most once a second.
func (x *shares) measure(s *model.Service, times []time.Duration) {
	fresh := balance.Quickness(times)
	for i, b := range s.Backends {
		m := memberOf(s, b.Address)
		if have, ok := x.quick[m]; !ok || max(fresh[i]-have, have-fresh[i]) >= off {
			x.quick[m] = fresh[i]
		}
	}
}

// weigh takes over what the backends of pools say of their loads: loads returns it
// for a pool. It is called once a second.
func (x *shares) weigh(pools []model.Pool, loads func(pool string) []float64) {
	fresh := map[member]float64{}
	for i := range pools {
		s := &pools[i].Service
		if pools[i].Load.Header == "" {
			continue
		}
		had := make([]float64, len(s.Backends))
		for b := range had {
			had[b] = 1
			if share, ok := x.loads[memberOf(s, s.Backends[b].Address)]; ok {
				had[b] = share
			}
		}
		for b, share := range balance.Even(had, loads(s.Name)) {
			fresh[memberOf(s, s.Backends[b].Address)] = share
		}
	}
	x.loads = fresh
}

// of returns the shares of the backends of a service by now, nil if all are
// whole.
func (x *shares) of(s *model.Service) []int {
	if !x.vary(s) {
		return nil
	}
	list, whole := make([]int, len(s.Backends)), true
	for i, b := range s.Backends {
		m := memberOf(s, b.Address)
		list[i] = balance.Whole
		if since, ok := x.joined[m]; ok && s.SlowStart > 0 {
			list[i] = balance.Ramp(time.Since(since), s.SlowStart)
		}
		if quick, ok := x.quick[m]; ok && s.Balance.Method == model.ResponseTime {
			list[i] = balance.Product(list[i], quick)
		}
		if load, ok := x.loads[m]; ok {
			list[i] = balance.Product(list[i], int(math.Round(balance.Whole*load)))
		}
		whole = whole && list[i] == balance.Whole
	}
	if whole {
		return nil
	}
	return list
}

// vary reports whether the backends of a service may have other shares than whole
// ones.
func (x *shares) vary(s *model.Service) bool {
	if s.SlowStart > 0 || s.Balance.Method == model.ResponseTime {
		return true
	}
	return slices.ContainsFunc(s.Backends, func(b model.Backend) bool {
		_, ok := x.loads[memberOf(s, b.Address)]
		return ok
	})
}

// turned reports whether the shares of a service are others than at the last
// call for it.
func (x *shares) turned(s *model.Service) bool {
	list := x.of(s)
	if slices.Equal(list, x.now[s.Key()]) {
		return false
	}
	x.now[s.Key()] = list
	return true
}

// forget drops what is known of backends that are no more, and of starts that
// are over.
func (x *shares) forget(state *model.State) {
	there := map[member]time.Duration{}
	for _, s := range state.Groups() {
		if !x.vary(s) {
			delete(x.now, s.Key())
			continue
		}
		for _, b := range s.Backends {
			there[memberOf(s, b.Address)] = s.SlowStart
		}
	}
	for m, since := range x.joined {
		if full, ok := there[m]; !ok || time.Since(since) >= full {
			delete(x.joined, m)
		}
	}
	for m := range x.quick {
		if _, ok := there[m]; !ok {
			delete(x.quick, m)
		}
	}
}

// reshare lets proxies and kernel have the shares of now.
func (a *agent) reshare() {
	a.shares.weigh(a.state.Pools, func(name string) []float64 { return a.pools[name].http.Loads() })
	var turned []int
	for i, s := range a.roster.groups {
		if s.Balance.Method == model.ResponseTime {
			a.shares.measure(s, a.responses(s))
		}
		if a.shares.turned(s) {
			turned = append(turned, i)
		}
	}
	a.tell(turned)
	a.shares.forget(a.state)
}

// responses returns how long a service's backends take to answer: to the requests
// of a pool, else to probes; 0 for who is down or did neither yet.
func (a *agent) responses(s *model.Service) []time.Duration {
	times := make([]time.Duration, len(s.Backends))
	var requests []time.Duration
	if p := a.pools[s.Name]; p != nil && s.Forward == model.ForwardHTTP {
		requests = p.http.Responses()
	}
	for i, key := range a.roster.checks[s.Key()] {
		var status health.Status
		if status, _ = a.checker.StatusOf(key); !status.Up {
			continue
		}
		if times[i] = status.Response; i < len(requests) && requests[i] > 0 {
			times[i] = requests[i]
		}
	}
	return times
}

// sharesOf returns the shares of the backends of a service by now: those of shares,
// and what the backends' own agents say; nil if all are whole.
func (a *agent) sharesOf(s *model.Service) []int {
	list := a.shares.of(s)
	if s.Health.Agent.Port == 0 {
		return list
	}
	if list == nil {
		list = slices.Repeat([]int{balance.Whole}, len(s.Backends))
	}
	for i, key := range a.roster.checks[s.Key()] {
		status, ok := a.checker.StatusOf(key)
		switch percent := status.Word.Share(); {
		case !ok:
		case percent == 0:
			list[i] = 0
		default:
			list[i] = balance.Product(list[i], max(1, percent*balance.Whole/100))
		}
	}
	return list
}

// tell lets proxies and kernel have what is known now of some services and pools,
// by their index among the groups of the roster.
func (a *agent) tell(groups []int) {
	var services []int
	for _, i := range groups {
		if pool := i - len(a.state.Services); pool >= 0 {
			a.updatePool(&a.state.Pools[pool])
			continue
		}
		services = append(services, i)
		s := &a.state.Services[i]
		if f := a.fronts[s.Key()]; f != nil {
			f.update(s, a.judge(s))
		}
	}
	if a.kernel == nil || len(services) == 0 {
		return
	}
	if err := a.kernel.SetHealth(services, a.down); a.news("health", err) {
		a.log.Error("write health", "err", err)
	}
}

// judge returns what is known now of a service of the state in force.
func (a *agent) judge(s *model.Service) judgement { return judgement{a.down(s), a.sharesOf(s)} }
