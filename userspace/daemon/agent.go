package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/loader"
	"fairlead/userspace/acme"
	"fairlead/userspace/certs"
	"fairlead/userspace/health"
	"fairlead/userspace/host"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/names"
	"fairlead/userspace/notify"
	"fairlead/userspace/supervise"
	"fairlead/userspace/view"
)

// An agent is the state of a run. Everything in it belongs to the goroutine of
// loop; others hand it functions through events.
type agent struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	state       *model.State
	roster      *roster // of state
	names       *names.Resolver
	given       atomic.Pointer[model.State] // the configuration in force, before names are looked up
	renamed     chan struct{}               // holds one element after another was given
	reloaded    time.Time                   // when state came into force
	configError string                      // why the configuration's newest version is not in force

	kernel *kernel.Kernel // nil while XDP does not run
	pins   fs.FileInfo    // the pin directory of kernel
	// noXDP says why XDP does not run, or not as asked for; "" if it does.
	noXDP    string
	attach   loader.Report // of the last attach
	retryAt  time.Time     // when to attach again; zero: not by itself
	lock     *loader.AgentLock
	leaving  bool           // the agent ends
	handed   bool           // a successor serves in place of this process
	yielding sync.WaitGroup // of proxies that end then
	before   *predecessor
	// collecting is held while the flow table is searched, and while a successor
	// takes the kernel's part over.
	collecting sync.Mutex
	// out are the interfaces that a command has taken out.
	out map[string]bool

	checker *health.Checker
	spare   spare
	changed *mailbox // checks whose result has changed
	// isDown holds the keys of checks that say down, as kernel, proxies and
	// the view have it.
	isDown   map[string]bool
	shares   *shares
	drains   drains
	suspects *suspects
	fronts   map[model.Key]*front
	pools    map[string]*pool
	notices  *notify.Notifier
	served   map[model.Key]model.Serving // when noticeServing last looked
	ownKey   string                      // of sticky cookies; "" until it is needed
	safe     *safe
	files    *certs.Watcher // of safe
	issuer   atomic.Pointer[acme.Manager]
	vault    *secrets // nil if no service needs it
	// certError says why files of safe are not what they were read for last,
	// expiryTold when certificates that expire soon were last named.
	certError  string
	expiryTold time.Time
	retried    time.Time // when fronts last tried to listen
	standby    *standby
	holder     holder
	journal    *journal
	flowLog    *flowLog
	traces     *traces
	limits     limits
	metrics    net.Listener // nil if nobody may ask
	page       net.Listener // the same
	sockets    *sockets
	// flowsCame is closed when the flows of the process before this one are here, if
	// there is one. Proxies of UDP wait for it.
	flowsCame chan struct{}
	desk      desk
	doors     *doors
	// added are the addresses that the agent itself put on the host, or got
	// from a kernel part that is gone.
	added []netip.Addr
	// owns says that the run directory is this agent's, and with it the file
	// of addresses.
	owns bool

	events chan func()
	// pulse is where the heartbeat goes; nil while XDP does not run.
	pulse atomic.Pointer[loader.ControlView]

	// held is how many flows the kernel's table had when it was last searched, -1
	// before that.
	held atomic.Int64

	plane     *plane                    // carries out changes
	latest    atomic.Pointer[view.View] // as published last
	shown     chan struct{}             // closed once there is a latest one
	last      *lastSeen                 // by the agent before; nil: nothing
	checks    atomic.Pointer[lastKnown] // that are to be kept
	unsigned  bool                      // the lock does not say yet which state is in force
	hopsDue   bool                      // backends have come or gone since hopsKept
	hopsKept  time.Time
	published time.Time
	again     <-chan time.Time // when it is to be published that was not at once; nil: never
	cost      time.Duration    // of publishing
	said      map[string]string
}

// Times that tests shorten.
var (
	// beat is how often the agent shows that it lives, and looks after itself.
	beat = time.Second
	// retryAfter is how long XDP stays off after it was lost, and how often what
	// cannot listen tries again.
	retryAfter = 5 * time.Second
)

func newAgent(o Options, state *model.State) *agent {
	a := &agent{
		opts: o, log: o.Log, started: time.Now(), state: state, roster: newRoster(state), names: names.New(o.Log), notices: notify.New(o.Log), renamed: make(chan struct{}, 1),
		changed: newMailbox(), shares: newShares(), drains: drains{}, suspects: newSuspects(), fronts: map[model.Key]*front{}, pools: map[string]*pool{}, safe: &safe{},
		standby: newStandby(o.Log), holder: holder{log: o.Log}, journal: newJournal(o.Log), traces: newTraces(o.Version, o.Log), limits: newLimits(o),
		sockets: newSockets(map[string]*os.File{}, true, o.Log), flowsCame: make(chan struct{}), shown: make(chan struct{}),
		events: make(chan func()), said: map[string]string{}, out: map[string]bool{}, plane: &plane{conf: &conf{base: &base{}}},
	}
	a.flowLog = newFlowLog(func(f func(*loader.Maps) error) error { return onInstance(a.pinDir(), f) }, flowsEvery, o.Log)
	a.reloaded = a.started
	a.held.Store(-1)
	a.given.Store(state)
	a.notices.Use(state.Notify)
	a.files = certs.NewWatcher(func(ctx context.Context) { a.send(ctx, func() { a.rereadFiles(); a.rereadDesk() }) }, o.Log)
	a.checker = health.New(o.Log, func(t health.Target, _ health.Status) { a.changed.put(t.Key()) })
	return a
}

// loop carries out events until ctx is done.
func (a *agent) loop(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	due, stop := watchdog()
	defer stop()
	a.publish()
	close(a.shown)
	a.keepKnown()
	a.noticeServing() // what changes from now on
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.tick(ctx)
		case <-due:
			a.report(supervise.Watchdog)
		case <-a.changed.ready:
			a.applyHealth(a.changed.take())
		case f := <-a.events:
			f()
		case <-a.again:
			a.again = nil
		}
		if a.handed {
			return // and publish nothing: another process does
		}
		a.publish()
	}
}

// send hands f to loop. It gives up when ctx is done.
func (a *agent) send(ctx context.Context, f func()) {
	select {
	case a.events <- f:
	case <-ctx.Done():
	}
}

// beatOn writes the heartbeat until ctx is done, however busy loop is.
func (a *agent) beatOn(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		if control := a.pulse.Load(); control != nil {
			control.Beat()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// news reports whether an error is another one than at the last call for its
// topic, so that it is to be logged. What repeats is said once.
func (a *agent) news(topic string, err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	is := a.said[topic] != text
	a.said[topic] = text
	return is && err != nil
}

// down returns which backends of a service of the state in force are down.
func (a *agent) down(s *model.Service) []bool { return a.roster.down(a.isDown)(s) }

// applyHealth lets the proxies and the kernel have what is known now of some
// checks.
func (a *agent) applyHealth(keys map[string]bool) {
	seen := map[int]bool{}
	for key := range keys {
		was := a.isDown[key]
		if delete(a.isDown, key); isDown(a.checker, key) {
			a.isDown[key] = true
		}
		if was != a.isDown[key] {
			a.noticeHealth(key)
		}
		for _, i := range a.roster.services[key] {
			seen[i] = true
			if was && !a.isDown[key] {
				a.rejoin(a.roster.groups[i], key)
			}
		}
	}
	a.tell(slices.Sorted(maps.Keys(seen)))
	a.keepKnown()
}

// rejoin lets the backends of a service start that a check calls up again.
func (a *agent) rejoin(s *model.Service, key string) {
	for b, k := range a.roster.checks[s.Key()] {
		if k == key {
			a.shares.join(s, s.Backends[b].Address)
		}
	}
}

// reconcile makes the maps hold what is known now.
func (a *agent) reconcile() {
	if a.kernel == nil {
		return
	}
	a.keepCookies() // before XDP makes any
	before := a.kernel.Rungs()
	rungs, err := a.kernel.Reconcile(a.state, a.down)
	if a.news("reconcile", err) {
		a.log.Error("reconcile", "err", err)
	}
	a.logRungs(a.state, before, rungs)
}

// logRungs names the services of a state that are not forwarded where they were.
func (a *agent) logRungs(state *model.State, before, now []kernel.Rung) {
	for i, r := range now {
		if i < len(before) && before[i] != r {
			a.log.Info("rung changed", "service", state.Services[i].Name, "proxy", r.Proxy, "reason", r.Reason)
		}
	}
}

// tick is what happens each second.
func (a *agent) tick(ctx context.Context) {
	if a.kernel != nil {
		a.watchKernel(ctx)
	}
	if a.kernel == nil && !a.leaving && !a.retryAt.IsZero() && time.Now().After(a.retryAt) {
		a.tryAttach(ctx)
	}
	if time.Since(a.retried) >= retryAfter {
		a.retryFronts(ctx)
		a.followFullNAT()
	}
	if a.unsigned {
		a.sign()
	}
	if a.hopsDue {
		a.keepHops(ctx, a.state)
	}
	a.keepCookies()
	a.followStandby()
	a.suspect()
	a.reshare()
	a.endDrains(ctx)
	a.tellExpiry(time.Now())
	a.noticeServing()
	a.reportStatus()
}

// followFullNAT lets full-NAT services go back to XDP when nothing stands
// against it any more.
func (a *agent) followFullNAT() {
	if a.kernel == nil {
		return
	}
	changed, err := a.kernel.FullNATChanged(a.state)
	if a.news("full-nat", err) {
		a.log.Warn("look at full-nat sources", "err", err)
	}
	if changed {
		a.reconcile()
	}
}

// keepCookies has the proxies of services with SYN cookies make one. The kernel
// takes XDP's only for two minutes after that, and the SYN that XDP lets through
// each second of a flood may be one that the stack throws away.
func (a *agent) keepCookies() {
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if s.CookieAbove == 0 || !a.listens(s) {
			continue
		}
		if err := host.SendSYN(s.Listen); a.news("cookies of "+s.Name, err) {
			a.log.Warn("keep taking SYN cookies", "service", s.Name, "err", err)
		}
	}
}

// followStandby tells the kernel's part who takes SYN cookies by now.
func (a *agent) followStandby() {
	if a.kernel == nil {
		return
	}
	if err := kernel.CheckCookies(a.state); a.news("cookies", err) {
		a.log.Warn("no syn cookies", "err", err)
	}
	if a.kernel.StandbyChanged(a.state) {
		a.reconcile()
	}
}

// hostChanged is called when links, addresses or routes have changed.
func (a *agent) hostChanged(ctx context.Context) {
	if a.kernel != nil {
		a.watchKernel(ctx)
	}
	a.keepAddresses()
	a.retryFronts(ctx)
	if a.kernel == nil {
		return
	}
	a.keepHops(ctx, a.state)
	a.reconcile()
	a.kernel.Recheck()
}

// closePools ends the connections to backends that no request uses.
func (a *agent) closePools() {
	for _, p := range a.pools {
		p.http.Close()
	}
}

// close releases what the agent holds. Packets keep flowing.
func (a *agent) close() error {
	var errs []error
	a.pulse.Store(nil)
	errs = append(errs, a.desk.close())
	if a.metrics != nil {
		a.metrics.Close() // again, if it has served
	}
	if a.page != nil {
		a.page.Close() // the same
	}
	if m := a.issuer.Load(); m != nil {
		m.Close()
	}
	a.vault.close()
	a.journal.close()
	a.flowLog.close()
	a.traces.close()
	errs = append(errs, a.doors.close())
	if a.kernel != nil {
		errs = append(errs, a.kernel.Close())
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Unlock())
	}
	return errors.Join(errs...)
}
