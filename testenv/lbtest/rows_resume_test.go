package lbtest

import (
	"maps"
	"net/netip"
	"strings"

	"fairlead/loader"
)

// resumeRows are packets from the middle of flows that are not known: rule 3,
// step 3.
func resumeRows() []row {
	const hash = loader.LBBalanceBALANCE_HASH
	hashed := balanced(hash, unchanged)
	slot := clientHash(0, tcp, client, web) % 8
	backend := []netip.AddrPort{back1, back2}[slot%2]
	resumes := func(name string, flags uint8, given ...func(*world)) row {
		r := takes(name, client, slot, append([]func(*world){hashed}, given...)...)
		r.frame, r.out = segment(client, web, flags), leaving(client, backend, flags)
		return r
	}
	// goesOn is a packet of a flow that there is.
	goesOn := func(name string, given ...func(*world)) row {
		r := resumes(name, ack, given...)
		r.counts = maps.Clone(r.counts)
		maps.DeleteFunc(r.counts, func(name string, _ uint64) bool { return strings.HasSuffix(name, "flows") })
		return r
	}
	answer := func(flags uint8) []byte { return numbered(backend, client, flags, 100, 1) }
	data := segment(client, web, ack)
	passed := row{want: loader.LBVerdictPASS_NO_FLOW, frame: data}
	of := func(edit func(*loader.Service)) func(*world) { return balanced(hash, edit) }
	flood := then(of(func(s *loader.Service) { s.Flags, s.CookieAbove = s.Flags|cookies, 1 }), counts(0, 2), func(w *world) { w.must(w.SetCookies(true)) })
	rows := []row{
		resumes("a packet of a flow that is not known any more", ack),
		resumes("a packet of a flow of another balancer, to an address that is not local", ack, of(func(s *loader.Service) { s.Flags = 0 })),
		resumes("a listener is no connection", fin|ack),
		resumes("a flood does not end other flows", ack, flood),
		passed.as("a packet of the host's connection", then(hashed, remembered(0))),
		passed.as("a packet of a connection that the host remembers", then(hashed, remembered(1))),
		passed.as("a packet of an unknown flow while draining", then(hashed, draining)),
		passed.as("a packet of an unknown flow with a source of our own", of(func(s *loader.Service) { s.Flags |= fullNAT })),
		passed.as("a packet of an unknown flow that affinity may have led elsewhere", of(func(s *loader.Service) { s.Affinity = 1 })),
		passed.as("a packet of an unknown flow that load may have led elsewhere", of(func(s *loader.Service) { s.MaxLoad = 125 })),
		{name: "a cookie that is brought back is no flow", given: flood, want: loader.LBVerdictPASS_COOKIE, frame: brought(ack)},
		{name: "a client that may not resume a flow", given: of(func(s *loader.Service) { s.Flags |= listed }),
			want: loader.LBVerdictDROP_DENIED, frame: data},
		goesOn("a flow that was resumed goes on", sends(data), waits(now+tcpNew)),
		goesOn("both sides' packets make it last", sends(data, answer(ack), numbered(client, web, ack, 1, 100)), waits(now+tcpNew+1)),
		resumes("a number that the backend has not sent does not", ack, sends(data, answer(ack), numbered(client, web, ack, 1, 99)),
			waits(now+tcpNew+1)),
		resumes("a flow that was resumed by its end ends with the other one", syn, sends(segment(client, web, fin|ack), answer(fin|ack))),
	}
	for _, flags := range []uint8{rst, rst | ack, syn | ack, fin, 0} {
		rows = append(rows, row{name: "flags that resume no flow", given: hashed, want: loader.LBVerdictPASS_NO_FLOW,
			frame: segment(client, web, flags)})
	}
	return rows
}
