package datapath

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// clock is a program that returns the kernel's tick counter, which no file
// shows.
var clock = sync.OnceValues(func() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "fairlead_clock",
		Type:         ebpf.SocketFilter,
		License:      "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.FnJiffies64.Call(), asm.Return()},
	})
})

// Now returns the tick (jiffies, cut to 32 bits) that the datapath sees.
func Now() (uint32, error) {
	p, err := clock()
	if err != nil {
		return 0, fmt.Errorf("load clock: %w", err)
	}
	now, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 14)})
	if err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return now, nil
}
