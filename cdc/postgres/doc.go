// Package postgres reads row changes from PostgreSQL's logical replication.
//
// It owns the connection, the slot and the publication: it creates them where
// it is allowed to (publication first: a slot reads publications as of the
// log position it has reached), streams through the one and the other, answers
// keepalives, reconnects with back-off, and tells the server how much of the
// log it may forget.
//
// At every heartbeat it compares the publication with what must be published,
// adds what is missing, and tells the Handler of tables that entered or left: by
// a message in the log, so that this comes in its place and survives a crash. It
// never adds a table whose rows cannot be identified, and never removes one.
//
// One session has three goroutines. The receiver owns the reading side of the
// connection and hands over gulps, whatever one read brought. The decoder turns
// gulps into calls of a Handler; a Handler that blocks stops the receiver, and
// so the server. A message of more than a mebibyte is read by the decoder itself,
// in the receiver's place, and values that the Handler does not read are discarded
// on the way: a row of 1 GiB needs as much memory as what rules read of it. The
// reporter owns the writing side: it confirms what the watermark board calls safe, and never stops doing so, so that a slow sink
// cannot cost the connection.
//
// Protocol facts are from the PostgreSQL manual, chapter "Frontend/Backend
// Protocol", sections "Streaming Replication Protocol" and "Logical Streaming
// Replication Protocol".
package postgres
