// Package valkey purges keys from a Valkey or Redis server, standalone or
// cluster: exact keys by pipelined UNLINK, globs by SCAN at a bounded rate.
//
// It owns the connection, which it makes on first use, drops after a failure
// that a fresh one may not have, and authenticates with the password file as
// it then reads. A nil from Purge means that the server answered every UNLINK
// with a count; keys that were not there are purged too.
//
// It never retries on its own (the lane does), never sends FLUSHDB or KEYS,
// never builds a command out of strings, and never repeats a server's text in
// an error, because servers echo arguments: keys and passwords.
package valkey
