package daemon

import (
	"fmt"
	"time"

	"fairlead/userspace/model"
	"fairlead/userspace/supervise"
)

// report tells the service manager, if there is one, how the agent is.
func (a *agent) report(states ...string) {
	if err := supervise.Notify(states...); a.news("manager", err) {
		a.log.Warn("tell the service manager", "err", err)
	}
}

// reportStatus tells the manager what the agent does, in a line for people, if that
// is another one than before.
func (a *agent) reportStatus() {
	line := a.summary()
	if a.said["summary"] == line {
		return
	}
	a.said["summary"] = line
	a.report(supervise.Status(line))
}

// summary says in a line what the agent does.
func (a *agent) summary() string {
	line := fmt.Sprintf("%d services", len(a.state.Services))
	if len(a.state.Services) == 1 {
		line = "1 service"
	}
	switch {
	case a.kernel != nil:
		line += ", xdp on"
	case a.mode(a.state) == model.XDPOff:
		line += ", xdp off"
	default:
		line += ", no xdp: " + a.noXDP
	}
	if a.configError != "" {
		line += ", configuration not taken: " + a.configError
	}
	return line
}

// watchdog returns a channel that says when the manager is to be told that the loop
// lives, nil if nobody asks, and a function that ends it.
func watchdog() (due <-chan time.Time, stop func()) {
	every := supervise.WatchdogInterval()
	if every <= 0 {
		return nil, func() {}
	}
	tick := time.NewTicker(every)
	return tick.C, tick.Stop
}
