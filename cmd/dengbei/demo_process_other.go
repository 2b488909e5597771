//go:build unix && !linux

package main

import "syscall"

// childAttr puts a child into a process group of its own, so that a Ctrl-C meant for the demo ends it in order.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// withoutNetwork is nil: this system cannot take the network away from one process.
func withoutNetwork(int, int) *syscall.SysProcAttr { return nil }
