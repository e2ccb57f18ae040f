package splice

import "fairlead/userspace/model"

// Proxied returns the connections that have a backend now, or try one.
func (p *Proxy) Proxied() (all []model.Proxied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.sessions {
		all = append(all, s.proxied())
	}
	return all
}

func (s *session) proxied() model.Proxied {
	return model.Proxied{Client: s.from, Virtual: s.to, Backend: s.addr}
}

// Kill resets connections, both sides of them, and returns how many there were. Those
// that are only being made may find another backend.
func (p *Proxy) Kill(which func(model.Proxied) bool) int {
	return p.cut(func(s *session) bool { return which(s.proxied()) })
}
