package network

import "syscall"

// childAttr has the kernel kill a child when the test is killed.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
