// Package network runs networks of archive centres for end-to-end tests: real processes of the real programs on loopback
// ports, with directories of their own, driven over the command line and over gRPC as people and units drive them.
//
// It decides nothing about the product and reaches into no process. What it can do to a centre is what happens to one:
// kill it, stop it, cut its cable, damage its files, start it again. Every process is a child that the kernel kills when
// the test ends, and [Start] registers a clean-up that waits until all are gone.
package network
