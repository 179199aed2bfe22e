// Package embedded runs the pipeline's own NATS server inside the daemon, on
// one data directory, and makes what it acknowledged durable on demand. It is
// the only package that imports nats-server.
//
// The server acknowledges a message once it has written it, which survives the
// death of the process but not of the machine. Sync closes that difference, so
// the daemon confirms a position to PostgreSQL only after a Sync that began
// after the acknowledgement.
package embedded
