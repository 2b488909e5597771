//go:build !linux

package network

import "syscall"

func childAttr() *syscall.SysProcAttr { return nil }
