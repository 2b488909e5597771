//go:build !linux

package e2e

import (
	"errors"
	"syscall"
	"testing"
)

func mountVolume(*testing.T, string) error { return errors.New("volumes are mounted on Linux only") }

func resize(t *testing.T, _ string, _ int64) { t.Fatal("volumes are mounted on Linux only") }

func nobody() *syscall.SysProcAttr { return nil }
