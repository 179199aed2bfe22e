// Package catchup decides how a backlog is read through SQL, and reads the format in which it comes.
//
// A walsender sends each message by a call of its own. The SQL function
// pg_logical_slot_peek_binary_changes decodes the same log with the same plugin and sends it
// through the normal output buffer, which is several times as fast. It can be called on the
// replication connection itself, so a session first reads its backlog with it, chunk by chunk, and then
// starts the stream.
//
// A [Plan] is a pure state machine. The caller reads the [Slot] from the server and asks [Plan.Next]
// for the next [Step]: read a chunk up to a position, start the stream, or end the session because
// the slot was moved. When the chunk has arrived in full, the caller reads the slot again, and
// [Plan.Copied] returns the position that the chunk proves. Once that position is safe, the caller
// advances the slot and calls [Plan.Advanced].
//
// [Rows] reads the rows of COPY ... TO STDOUT (FORMAT binary).
package catchup
