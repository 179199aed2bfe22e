// Package rules turns row changes into invalidations.
//
// A Set is read from YAML, compiled once, immutable and safe for concurrent
// use; a reload makes a new one. For every change it answers which cache keys,
// tags and URLs are no longer true, and on request why (Explain). Three
// principles keep it from losing a purge:
//
//   - either image: a condition that holds for the old or the new row matches,
//     and the values of both are invalidated;
//   - unknown matches: a condition that needs a column which the stream did not
//     carry, or that fails, counts as true, and a value that cannot be built is
//     replaced by what the rule's unknown: names;
//   - per sink: what one sink cannot take falls back to what it can.
//
// What one change produces is a Plan's answer; what a transaction produces, for
// rules with collapse:, is that of a Tally, which holds a bounded part of it. A
// coarser value replaces others only where each of its own could be built; so
// what is purged always covers what would have been without it.
//
// A rule that asks the database hands over its question with what the row makes
// of the values (Pending), and is given the answer later (Fill). Whatever a row or
// an answer holds, a value stays in the literal frame of its template, and what an
// expression makes of it is bounded.
//
// A Catalog says what is known of tables before a row is seen. Rules are checked
// against it when they are read; it only refuses, and changes nothing of what they do.
//
// The package is pure: no network, no clock, no goroutine, no log.
package rules
