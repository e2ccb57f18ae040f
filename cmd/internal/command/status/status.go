// Package status is what both programs answer when they are asked how things
// stand: the kernel's part, and the agent's view if one lives.
//
// It only looks. Without root the agent's view alone is shown, without an agent
// the kernel's part alone.
package status

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A Status is how things stand. Its JSON form is stable.
type Status struct {
	// Health says in a line who keeps it, or since when nobody does.
	Health string `json:"health"`
	// Kernel is nil if nothing is attached, or if it cannot be read; then
	// KernelReason says why.
	Kernel       *kernel.View `json:"kernel"`
	KernelReason string       `json:"kernel_reason"`
	// Agent is the view of a living agent, else nil. AgentReason says why there
	// is none although one should be, ViewAge how old it is.
	Agent       *view.View `json:"agent"`
	AgentReason string     `json:"agent_reason"`
	ViewAge     float64    `json:"view_age_seconds"`
	// Services are the agent's, or what the kernel's part says of them.
	Services []view.Service `json:"services"`

	now time.Time
}

// silence is the age of a heartbeat from which an agent seems to hang.
const silence = 5 * time.Second

// Read looks at the instance pinned in pinDir and at the view in runDir; ""
// means their defaults, for a view those of this user and of root. inKernel is
// [kernel.Status]. It fails only if neither can be read.
func Read(pinDir, runDir string, now time.Time, inKernel func(dir string) (*kernel.View, error)) (*Status, error) {
	s := &Status{now: now}
	k, kernelErr := inKernel(pinDir)
	if kernelErr == nil {
		s.Kernel = k
	} else {
		s.KernelReason = kernelErr.Error()
	}
	v, dir, err := readView(runDir)
	if s.AgentReason = s.noAgent(runDir, dir, v, err); s.AgentReason == "" {
		s.Agent, s.ViewAge = &v, max(0, now.Sub(v.Written).Seconds())
	}
	if kernelErr != nil && s.Agent == nil && !errors.Is(kernelErr, loader.ErrNotAttached) {
		return nil, kernelErr
	}
	if s.Agent != nil && s.Agent.XDP.Mode == model.XDPOff && errors.Is(kernelErr, loader.ErrNotAttached) {
		s.KernelReason = "xdp is off"
	}
	s.Health, s.Services = s.health(), s.services()
	return s, nil
}

// noAgent says why what [readView] has found for runDir is not the view of the agent
// that is looked at, and what to do; "" if it is.
func (s *Status) noAgent(runDir, dir string, v view.View, err error) string {
	k, keeper := s.Kernel, 0
	todo := "start one, or give the --run-dir of one that runs"
	if k != nil && k.AgentPID != 0 {
		keeper = k.AgentPID
		todo = fmt.Sprintf("process %d has just started (ask again), or has another --run-dir", keeper)
	}
	file := view.File(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		var files []string
		for _, d := range runDirs(runDir) {
			files = append(files, view.File(d))
		}
		return fmt.Sprintf("no agent publishes its status in %s: %s", strings.Join(files, " or "), todo)
	case err != nil:
		return err.Error()
	case !v.Alive():
		return fmt.Sprintf("process %d, which wrote %s at %s, has ended: %s", v.PID, file, s.clock(v.Written), todo)
	case keeper != 0 && keeper != v.PID:
		return fmt.Sprintf("process %d writes %s, and process %d keeps XDP: that one is taking over (ask again), or has another --run-dir", v.PID, file, keeper)
	case k != nil && v.PinDir != "" && v.PinDir != k.Dir:
		return fmt.Sprintf("process %d, which writes %s, has its pins in %s: give that --pin-dir, or the --run-dir of an agent of %s", v.PID, file, v.PinDir, k.Dir)
	}
	return ""
}

// Told returns how things stand as an agent elsewhere tells it: its view, and what it
// says of the kernel, nil for nothing.
func Told(v *view.View, k *kernel.View, now time.Time) *Status {
	s := &Status{now: now, Agent: v, Kernel: k, ViewAge: max(0, now.Sub(v.Written).Seconds())}
	if k == nil {
		s.KernelReason = cmp.Or(v.XDP.Reason, "xdp is off")
	}
	s.Health, s.Services = s.health(), s.services()
	return s
}

// Agent returns the view of a living agent whose kernel part is pinned in pinDir,
// nil if there is none. runDir is as of [Read].
func Agent(runDir, pinDir string) *view.View {
	v, _, err := readView(runDir)
	if err != nil || !v.Alive() {
		return nil
	}
	if pinDir, err = filepath.Abs(pinDir); err != nil || v.PinDir != pinDir {
		return nil
	}
	return &v
}

// runDirs returns dir or, for "", the directories that there are by default.
func runDirs(dir string) []string {
	switch mine := view.DefaultDir(); {
	case dir != "":
		return []string{dir}
	case mine != view.SystemDir:
		return []string{mine, view.SystemDir}
	}
	return []string{view.SystemDir}
}

// readView returns the view of a living agent in one of the directories that runDir
// stands for, else what there is in the last one, and in which it is.
func readView(runDir string) (v view.View, dir string, err error) {
	for _, dir = range runDirs(runDir) {
		if v, err = view.Read(dir); err == nil && v.Alive() {
			break
		}
	}
	return v, dir, err
}

// health says who judges backends now.
func (s *Status) health() string {
	k := s.Kernel
	switch {
	case k == nil && s.Agent == nil:
		return "no agent"
	case k == nil:
		return fmt.Sprintf("agent pid %d, alive", s.Agent.PID)
	case k.AgentPID != 0 && k.Heartbeat != nil && s.now.Sub(*k.Heartbeat) > silence:
		if began, err := view.Began(k.AgentPID); err == nil && began.After(*k.Heartbeat) {
			return fmt.Sprintf("agent pid %d, starting since %s", k.AgentPID, s.clock(began)) // the heartbeat is that of another one
		}
		return fmt.Sprintf("agent pid %d, silent since %s", k.AgentPID, s.clock(*k.Heartbeat))
	case k.AgentPID != 0:
		return fmt.Sprintf("agent pid %d, alive", k.AgentPID)
	case s.Agent != nil:
		return fmt.Sprintf("agent pid %d, alive, without the kernel's part", s.Agent.PID)
	case s.allUp():
		return fmt.Sprintf("no agent since %s: every backend counts as up (on-agent-loss: all-up)", s.clock(*k.Heartbeat))
	case k.Heartbeat != nil:
		return fmt.Sprintf("health frozen since %s (on-agent-loss: %s)", s.clock(*k.Heartbeat), k.OnAgentLoss)
	}
	return "no agent"
}

// allUp reports whether every backend counts as up, as no agent runs.
func (s *Status) allUp() bool {
	k := s.Kernel
	return k != nil && k.AgentPID == 0 && s.Agent == nil && k.Heartbeat != nil && k.OnAgentLoss == model.LossAllUp
}

// clock returns the time of day, with the date if it is not today's.
func (s *Status) clock(t time.Time) string {
	t = t.In(s.now.Location())
	if t.Format(time.DateOnly) == s.now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// services returns the agent's, else those that the kernel holds.
func (s *Status) services() []view.Service {
	all := []view.Service{}
	standby := "no agent"
	if s.Kernel != nil && s.Kernel.AgentPID != 0 {
		standby = "not known without the agent's view"
	}
	switch {
	case s.Agent != nil:
		return append(all, s.Agent.Services...)
	case s.Kernel != nil:
		for i := range s.Kernel.Services {
			have := &s.Kernel.Services[i]
			v := view.Service{
				Name: have.Name, Listen: have.Listen, Protocol: have.Protocol, Forward: kernelForward(have),
				StandbyReason: standby, Backends: []view.Backend{},
			}
			v.Rung, v.Reason = kernelRung(s.Kernel, have.Rung == "proxy")
			for _, b := range have.Backends {
				up := b.State != "down"
				v.Backends = append(v.Backends, view.Backend{
					Address: b.Address, Weight: int(b.Weight), Share: 100, Flows: int(b.Connections), Up: up,
					Serves: b.Slots > 0 || b.Weight > 0 && (up || s.allUp()),
				})
			}
			all = append(all, v)
		}
	}
	return all
}

// kernelForward returns how a service is forwarded, as far as the kernel knows.
func kernelForward(s *datapath.ServiceView) model.Forward {
	switch {
	case s.FullNAT:
		return model.ForwardFullNAT
	case s.Rung == "proxy":
		return "" // asked for, or for want of XDP
	}
	return model.ForwardDNAT
}

// kernelRung returns what serves a service as far as the kernel knows.
func kernelRung(k *kernel.View, proxy bool) (view.Rung, string) {
	switch {
	case proxy && k.AgentPID == 0:
		return view.RungNone, "it is the proxy's, and no agent runs"
	case proxy:
		return view.RungProxy, ""
	case k.Mode == "off" && k.AgentPID == 0:
		return view.RungNone, "XDP is switched off, and no agent runs"
	case k.Mode == "off":
		return view.RungProxy, "XDP is switched off"
	}
	for _, i := range k.Interfaces {
		if i.Mode == string(loader.AttachGeneric) {
			return view.RungGeneric, i.Name + " is attached in generic mode"
		}
	}
	return view.RungNative, ""
}
