package main

import (
	"fmt"

	"fairlead/testenv"
)

const (
	cookieRounds = 7
	shortVisits  = 2000 // connections in a round
	longBytes    = 256 << 20
	lossVisits   = 3000
	lossPercent  = 1
)

// A way is one of those that a connection may take through the balancer.
type way struct {
	name string
	*fort
}

func cookies(b *bench) {
	fairlead, err := besideThis("fairlead")
	if err != nil {
		b.Fatalf("%v", err)
	}
	ways := []way{
		{"XDP, no cookie", newFort(b, fairlead, false)},
		{"cookie, then proxy", newFort(b, fairlead, true)},
	}
	shortConnections(b, ways)
	longConnections(b, ways)
	lossyConnections(b, ways)
}

func shortConnections(b *bench, ways []way) {
	b.Helper()
	var subjects []subject
	for _, w := range ways {
		for _, greets := range []bool{false, true} {
			subjects = append(subjects, subject{w.name, func() float64 { return w.short(greets) }})
		}
	}
	us := b.measure("short connections", cookieRounds, subjects)
	t := table{
		title:   fmt.Sprintf("CPU time of a short connection (median of %d rounds of %d)", cookieRounds, shortVisits),
		columns: []string{"through", "client first, us", "x XDP", "server first, us", "x XDP"},
		notes:   []string{"Of client, balancer and server together."},
	}
	for i, w := range ways {
		t.add(w.name, fmt.Sprintf("%.1f", us[2*i]), ratio(us[2*i], us[0]), fmt.Sprintf("%.1f", us[2*i+1]), ratio(us[2*i+1], us[1]))
	}
	t.print(b.out)
}

func longConnections(b *bench, ways []way) {
	b.Helper()
	orders := []order{{up: longBytes, down: 1}, {down: longBytes}}
	var subjects []subject
	rates := make([][]float64, len(ways)*len(orders))
	for i, w := range ways {
		for k, o := range orders {
			subjects = append(subjects, subject{w.name, func() float64 {
				ns, rate := w.long(o)
				rates[2*i+k] = append(rates[2*i+k], rate)
				return ns
			}})
		}
	}
	ns := b.measure("long connections", cookieRounds, subjects)
	for k, direction := range []string{"to the server", "to the client"} {
		t := table{
			title:   fmt.Sprintf("One long connection %s (%d MB, median of %d rounds)", direction, longBytes>>20, cookieRounds),
			columns: []string{"through", "CPU ns/kB", "x XDP", "MB/s", "x XDP"},
		}
		for i, w := range ways {
			rate := median(rates[2*i+k])
			t.add(w.name, fmt.Sprintf("%.0f", ns[2*i+k]), ratio(ns[2*i+k], ns[k]), fmt.Sprintf("%.0f", rate), ratio(rate, median(rates[k])))
		}
		t.print(b.out)
	}
}

// lossyConnections counts who is not served where a cable loses packets.
func lossyConnections(b *bench, ways []way) {
	b.Helper()
	t := table{
		title: fmt.Sprintf("Of %d connections, those not served within %s at %d %% loss each way (of those served, the time that 99 of 100 took at most)",
			lossVisits, patience, lossPercent),
		columns: []string{"through", "client first: its cable", "servers'", "server first: client's cable", "servers'"},
	}
	for _, w := range ways {
		cells := []string{w.name}
		for _, greets := range []bool{false, true} {
			for _, hosts := range [][]*testenv.Host{w.rig.Clients, w.rig.Backends} {
				if b.ctx.Err() != nil {
					b.Fatalf("stop: %v", b.ctx.Err())
				}
				stop := lose(b, hosts, lossPercent)
				all := w.visits(w.visitor(greets), lossVisits, 64, shortOrder)
				stop()
				if len(all.took) == 0 {
					b.Fatalf("%s: nobody is served: %v", w.name, all.fails[0])
				}
				late := all.took[len(all.took)*99/100].Milliseconds()
				cells = append(cells, fmt.Sprintf("%d (%d ms)", len(all.fails), late))
			}
		}
		t.add(cells...)
	}
	t.print(b.out)
}
