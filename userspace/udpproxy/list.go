package udpproxy

import "fairlead/userspace/model"

// Proxied returns the flows that there are.
func (p *Proxy) Proxied() (all []model.Proxied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		all = append(all, f.proxied())
	}
	return all
}

// proxied tells a flow. The caller holds the lock.
func (f *flow) proxied() model.Proxied {
	x := model.Proxied{Client: unmap(f.key.client), Virtual: f.key.local}
	if f.conn != nil {
		x.Backend = f.addr
	}
	return x
}

// Kill forgets flows, and returns how many there were. A client's next datagram makes
// a new one.
func (p *Proxy) Kill(which func(model.Proxied) bool) (n int) {
	var left []leaving
	p.mu.Lock()
	for _, f := range p.flows {
		if which(f.proxied()) {
			left = append(left, p.drop(f))
		}
	}
	p.mu.Unlock()
	leave(left)
	return len(left)
}
