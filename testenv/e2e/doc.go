// Package e2e holds the end-to-end tests: the real programs as processes, real
// clients and servers, real frames, on the rig of package testenv. Each test
// raises a stage of its own, and ends with an exact account of every frame.
//
// FAIRLEAD_SLOW=1 runs more rounds and real floods. FAIRLEAD_PROGRAMS names a
// directory with built programs to test; otherwise they are built.
package e2e
