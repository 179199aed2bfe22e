package postgres

import (
	"context"

	"github.com/walpurge/walpurge/cdc"
)

// Handler is what a reader feeds. Its methods are called by one goroutine, in
// the order of the log, and may block: that stops the reader and in time the
// server, never the application. An error ends the session; a *cdc.Halt in it
// ends the reader.
type Handler interface {
	// Start is called when streaming has begun, before anything else.
	Start(ctx context.Context, s cdc.Session) error
	// Reads returns which columns of a table the next Change will look at, in the order of
	// Relation.Columns; nil means all of them. Large values of others are not kept, and are
	// Unchanged in the change. Hears returns how much of the content of messages with
	// a prefix is read, in bytes; more is left out. Only what arrives in a large message is asked for.
	Reads(tx *cdc.Txn, rel *cdc.Relation) []bool
	Hears(tx *cdc.Txn, prefix string) int
	// Change hands over a row event or a TRUNCATE of one table. Transaction and
	// change are valid during the call only. Changes of streamed transactions come in
	// blocks, between whole transactions.
	Change(ctx context.Context, tx *cdc.Txn, c *cdc.Change) error
	// TableGap tells, within a transaction, that changes of some tables may have
	// been committed and not streamed. What it publishes must be safe before the
	// transaction's end is.
	TableGap(ctx context.Context, tx *cdc.Txn, gap cdc.TableGap) error
	// Message hands over a transactional message that is not the reader's own, in
	// its place among the changes. content is valid during the call only.
	Message(ctx context.Context, tx *cdc.Txn, prefix string, content []byte) error
	// Abort tells that a streamed transaction was rolled back, or only its
	// subtransaction tx.Sub, where that is another id than tx.XID.
	Abort(ctx context.Context, tx *cdc.Txn) error
	// Commit closes the transaction.
	Commit(ctx context.Context, tx *cdc.Txn) error
	// Rest is called when all that one read brought has been handed over.
	Rest(ctx context.Context, r cdc.Rest) error
}
