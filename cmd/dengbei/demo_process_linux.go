package main

import "syscall"

// childAttr puts a child into a process group of its own, so that a Ctrl-C meant for the demo ends it in order, and has the kernel kill it
// if the demo is killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// withoutNetwork takes every network interface but a loopback that is down away from a child: as root in a new network namespace, otherwise in a
// new user namespace too.
func withoutNetwork(uid, gid int) *syscall.SysProcAttr {
	attr := childAttr()
	attr.Cloneflags = syscall.CLONE_NEWNET
	if uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return attr
}
