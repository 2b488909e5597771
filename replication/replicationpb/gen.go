// Package replicationpb is the wire format between centres that pull backups from each other. It holds generated code and
// decides nothing; package replication serves and asks.
package replicationpb

//go:generate sh -c "cd ../.. && go tool -modfile=.ci/tools/go.mod buf generate --config .ci/buf.yaml --template .ci/buf.gen.yaml --path replication/replicationpb"
