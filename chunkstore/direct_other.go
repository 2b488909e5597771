//go:build !linux

package chunkstore

import "errors"

// setDirect knows no way past the system's cache here.
func setDirect(uintptr, bool) error { return errors.ErrUnsupported }
