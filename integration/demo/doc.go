// Package demo is the sample shop at work: a throwaway PostgreSQL, Valkey and
// edge cache, a small web shop that fills them, the daemon's own code between
// them, and a writer that changes rows and watches the copies go.
//
// It checks what it shows: a change counts as purged when the lanes said so and
// the key is gone from Valkey and the page from the edge.
package demo
