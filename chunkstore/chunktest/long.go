package chunktest

import (
	"os"
	"testing"
)

// EnvLong is the variable that has tests of many seconds run: with 1 they do. The step long of the build sets it.
const EnvLong = "DENGBEI_LONG"

// Long skips a test of many seconds unless [EnvLong] asks for it.
func Long(t testing.TB) {
	t.Helper()
	if os.Getenv(EnvLong) != "1" {
		t.Skipf("takes long: set %s=1 to run it", EnvLong)
	}
}
