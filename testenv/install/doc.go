// Package install tests what is installed: the unit, the agent as the unit runs it,
// the Debian package and the image. It has nothing but tests.
package install
