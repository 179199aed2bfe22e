// Package bench measures a pipeline on the user's own database and sinks: how fast a
// backlog drains, and how long a commit takes to be purged.
//
// It works in a schema, slot, publication, stream and keys of its own, all named
// walpurge_bench, and takes them away at the end, also when it is interrupted or fails.
// It never flushes what is the user's: the sinks' flush plans are replaced.
package bench
