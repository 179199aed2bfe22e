// Package visible answers one question: can a reader of the primary see this
// transaction yet?
//
// A logical walsender may send a COMMIT before the transaction leaves the list
// of running ones (xact.c: the commit record is flushed, and a synchronous
// standby waited for, before ProcArrayEndTransaction). A cache purged in that
// moment is refilled with the old row. The gate therefore compares the top-level
// transaction ids of a batch with pg_current_snapshot() on the primary, which
// is exactly what a reader's query would see.
//
// One connection serves all lanes, and it asks the server only while somebody
// waits.
package visible
