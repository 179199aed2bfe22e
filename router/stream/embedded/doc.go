// Package embedded runs the pipeline's own NATS server inside the daemon, on
// one data directory, and makes what it acknowledged durable on demand. It is
// the only package that imports nats-server.
//
// The server acknowledges a message once it has written it, which survives the
// death of the process but not of the machine. Sync closes that difference, so
// the daemon confirms a position to PostgreSQL only after a Sync that began
// after the acknowledgement.
//
// Applications that listen for purges connect to a second server, which has no
// JetStream and gets a copy of what is announced; see listeners.
package embedded
