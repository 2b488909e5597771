//go:build unix && !linux

package main

import "syscall"

// withoutNetwork is nil: this system cannot take the network away from one process.
func withoutNetwork(int, int) *syscall.SysProcAttr { return nil }
