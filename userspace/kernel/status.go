package kernel

import (
	"time"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

// A View is the kernel's part of the status. Its JSON form is stable.
type View struct {
	Dir        string          `json:"dir"`
	Mode       string          `json:"mode"` // off, draining or on
	Interfaces []InterfaceView `json:"interfaces"`
	Config     string          `json:"config,omitempty"` // path of the configuration in the maps
	// AgentPID is the process of a living agent, 0 if there is none.
	AgentPID int `json:"agent_pid,omitempty"`
	// Heartbeat is when an agent last was alive; nil if none ever was.
	Heartbeat   *time.Time       `json:"heartbeat,omitempty"`
	OnAgentLoss model.LossPolicy `json:"on_agent_loss"`
	Flows       int              `json:"flows"`                 // live now
	FlowTable   uint32           `json:"flow_table"`            // flows of IPv4 that there is room for
	FlowTable6  uint32           `json:"flow_table6,omitempty"` // those of IPv6; 0: it is not loaded
	Memory      uint64           `json:"memory_bytes"`
	Maps        []MapView        `json:"maps"`
	datapath.View
}

// An InterfaceView is an attached interface.
type InterfaceView struct {
	Name    string `json:"name"`
	Ifindex int    `json:"ifindex"` // 0: the interface is gone, the link defunct
	Mode    string `json:"mode"`    // native or generic
	Program uint32 `json:"program_id"`
}

// A MapView is what a map takes in the kernel.
type MapView struct {
	Name    string `json:"name"`
	Entries uint32 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

// Status reads the instance pinned in dir. Errors wrap [loader.ErrNotAttached],
// [loader.ErrVersion] and [loader.ErrPrivileges].
func Status(dir string) (*View, error) {
	inst, err := loader.Open(dir)
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	rows, err := datapath.ReadLive(inst.Maps())
	if err != nil {
		return nil, err
	}
	v := &View{
		Dir: inst.Dir(), Mode: inst.Control().Mode().String(), OnAgentLoss: model.LossKeep, Flows: rows.Held,
		FlowTable: inst.Maps().FlowRoom(), FlowTable6: inst.Maps().FlowRoom6(), View: *rows, Interfaces: []InterfaceView{},
	}
	if inst.Control().LossAfter() > 0 {
		v.OnAgentLoss = model.LossAllUp
	}
	if age, ok := inst.Control().SinceBeat(); ok {
		beat := time.Now().Add(-age).Truncate(time.Second)
		v.Heartbeat = &beat
	}
	if v.AgentPID, _, _, err = loader.AgentRunning(dir); err != nil {
		return nil, err
	}
	return v, v.fill(inst)
}

// fill adds what the loader knows.
func (v *View) fill(inst *loader.Instance) error {
	links, err := inst.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		v.Interfaces = append(v.Interfaces, InterfaceView{l.Interface, l.Index, string(l.Mode), uint32(l.Program)})
	}
	j, err := inst.Maps().ReadJournal()
	if err != nil {
		return err
	}
	v.Config = j.Config.Path
	total, each, err := inst.Maps().Memory()
	if err != nil {
		return err
	}
	v.Memory = total
	for _, m := range each {
		v.Maps = append(v.Maps, MapView{m.Map, m.Entries, m.Bytes})
	}
	return nil
}
