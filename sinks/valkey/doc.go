// Package valkey purges a Valkey or Redis server, standalone, cluster or behind
// sentinels: exact keys by pipelined UNLINK, generations by raising a counter,
// tags by the sets of keys that the application keeps, prefixes and globs by
// SCAN at a bounded rate.
//
// It owns the connection, which it makes on first use, drops after a failure
// that a fresh one may not have, and authenticates with the password file and the
// TLS files as they then read. A nil from Purge means that the server answered
// every UNLINK with a count and every raise with the new number; keys that were
// not there are purged too. A tag's set that a purge has begun to walk is found
// again by the next purge of the tag, whatever was killed in between, as long as
// there is one purger at a time.
//
// It never retries on its own (the lane does), never sends FLUSHDB or KEYS,
// never builds a command out of strings, and never repeats a server's text in
// an error, because servers echo arguments: keys and passwords.
package valkey
