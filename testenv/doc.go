// Package testenv builds small networks out of network namespaces: hosts,
// cables between them, and the rig client – balancer – backends.
//
// It speaks netlink and ioctl itself and runs no tool, so that the same test
// binary works in a virtual machine with nothing else in it. Everything it
// makes goes away with the test. It does not know the load balancer; packages
// livegen (millions of frames a second) and xdpwatch (redirect errors) below it
// complete the accounting:
//
//	r := testenv.NewRig(t, testenv.RigOptions{Clients: 1, Backends: 3})
//	l := r.Backends[0].Listen(t, "tcp", "10.2.1.2:8080")
//	go serve(l)
//	far := r.Backends[0].CountFrames(t, testenv.Uplink)
//	conn, err := r.Clients[0].DialContext(ctx, "tcp", "203.0.113.10:80")
//	...
//	far.Counts().IPv4 // frames that reached the backend
//
// Importing it locks the main goroutine to the main thread, so that no other
// goroutine leaves that thread in another namespace.
package testenv
