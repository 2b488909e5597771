package main

import (
	"syscall"

	"dengbei/node/launch"
)

// withoutNetwork takes every network interface but a loopback that is down away from a child: as root in a new network namespace, otherwise in a
// new user namespace too.
func withoutNetwork(uid, gid int) *syscall.SysProcAttr {
	attr := launch.Attr()
	attr.Cloneflags = syscall.CLONE_NEWNET
	if uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return attr
}
