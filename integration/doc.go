// Package integration tests the whole system on real servers: PostgreSQL and
// Valkey as child processes, the stream embedded in the daemon, the daemon as a
// process of its own that is really killed, and an edge that refuses what the
// real one refuses.
//
// It holds tests only; what starts servers is in package harness, which the
// demo uses too.
package integration
