//go:build unix && !linux

package launch

import "syscall"

// Attr puts a child into a process group of its own, so that a Ctrl-C meant for the parent ends it in order.
func Attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
