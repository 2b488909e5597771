// Package replicationtest is what tests of replication stand on: the conformance suite that every [replication.Store] must
// pass, and a store and documents in memory that pass it. It is for tests only.
package replicationtest
