// Package rules turns row changes into invalidations.
//
// A Set is read from YAML, compiled once, immutable and safe for concurrent
// use; a reload makes a new one. For every change it answers which cache keys
// and tags are no longer true. Three principles keep it from losing a purge:
//
//   - either image: a condition that holds for the old or the new row matches,
//     and the values of both are invalidated;
//   - unknown matches: a condition that needs a column which the stream did not
//     carry, or that fails, counts as true, and a value that cannot be built is
//     replaced by what the rule's unknown: names;
//   - per sink: what one sink cannot take falls back to what it can.
//
// The package is pure: no network, no clock, no goroutine, no log.
package rules
