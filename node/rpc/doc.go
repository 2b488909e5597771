// Package rpc is gRPC on the peer port: the server's side of an authenticated connection, the rights of each method, and
// the table that gives every domain error its code and public reason, in both directions.
//
// Who calls is taken from the credential of the connection, never from a request. Handlers return domain errors; only
// this package knows gRPC codes.
package rpc
