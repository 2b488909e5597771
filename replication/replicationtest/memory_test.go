package replicationtest_test

import (
	"testing"

	"dengbei/replication"
	"dengbei/replication/replicationtest"
)

func TestMemory(t *testing.T) {
	replicationtest.RunStore(t, func(_ *testing.T, before replication.Store) replication.Store {
		if before != nil {
			return before
		}
		return new(replicationtest.Memory)
	})
}
