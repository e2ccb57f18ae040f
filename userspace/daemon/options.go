package daemon

import (
	"cmp"
	"log/slog"
	"time"

	"fairlead/loader"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
	"fairlead/userspace/view"
)

// Options say how an agent runs.
type Options struct {
	Config string // path of the configuration
	// Quick is the configuration in place of a file, if there is none; Config is
	// then what messages call it.
	Quick *config.Quick
	// PinDir, RunDir, where status.json goes, and Metrics, where Prometheus may
	// ask, are what the configuration says if they are empty, and if it is
	// silent too loader.DefaultDir, view.DefaultDir and "off".
	PinDir, RunDir string
	// StateDir is where the agent keeps what has to survive it: what the
	// configuration says if it is empty, and [state.Off] if that is silent too.
	StateDir string
	// Metrics and Web are as in model.Agent, and what the configuration says if they
	// are empty.
	Metrics, Web string
	// Interfaces and Mode win over the configuration's, if any.
	Interfaces []string
	Mode       model.XDPMode
	// Force replaces foreign XDP programs and takes over addresses on which
	// this host listens.
	Force bool
	// SetSysctl switches forwarding on where it is off.
	SetSysctl bool
	// DetachOnExit takes XDP out at the end, after at most Grace.
	DetachOnExit bool
	// Grace is how long flows may go on when XDP or a proxy ends.
	Grace time.Duration
	// Handover is for who runs the agent as a process of its own: SIGUSR2 starts a
	// successor by the command line of this process, and sockets are handed over to
	// it, and kept by the service manager between two processes.
	Handover bool
	// ProxyFlows is how many flows the UDP proxies may have together. Each
	// takes a port and a descriptor. 0 means [udpproxy.DefaultMaxFlows], but
	// no more than half of the host's local ports and a quarter of the
	// process's descriptors.
	ProxyFlows int
	// ProxySockets is how many sockets the proxies may open for ranges of
	// ports, beyond one for each service. 0 means 16384, but no more than a
	// quarter of the process's descriptors.
	ProxySockets int
	// Sandbox has the process give up, once it has started, files and system calls
	// that it does not need. That is for good, and for all of the process.
	Sandbox bool
	// Written are files that the process writes besides those of the agent: the
	// sandbox lets it make them anew.
	Written []string
	Version string       // of the program, for who asks
	Reopen  func() error `json:"-"` // called at SIGHUP, to open Log's file again; may be nil
	Log     *slog.Logger // nil discards

	ready func(control.Plane) // is called, in tests, before the agent serves
}

// tree returns the configuration as it is written.
func (o *Options) tree() (*config.Tree, error) {
	if o.Quick != nil {
		return o.Quick.Tree(), nil
	}
	return config.Read(o.Config)
}

// complete fills in what the configuration says of the process.
func (o *Options) complete(conf *model.Agent) {
	o.PinDir = cmp.Or(o.PinDir, conf.PinDir, loader.DefaultDir)
	o.RunDir = cmp.Or(o.RunDir, conf.RunDir, view.DefaultDir())
	o.StateDir = cmp.Or(o.StateDir, conf.StateDir, state.Off)
	o.Metrics = cmp.Or(o.Metrics, conf.Metrics, metricsOff)
	o.Web = cmp.Or(o.Web, conf.Web, metricsOff)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}
