// Package lookup puts the questions of rules to the database: it waits until the
// transactions at hand are visible, runs each statement once for all its distinct
// arguments, and gives the answers back in PostgreSQL's text form.
//
// It guarantees that an answer was read after the transactions it is asked for
// were visible, that asking takes no longer than about the longest timeout at
// hand, and that what was not answered has an error. After a failure it does not
// ask for a moment, so that a database that hangs does not hold every batch up for
// a whole timeout. It changes nothing in the database and starts no goroutine.
//
// It lies under the router, which declares the interface that it satisfies: its
// words are those of package rules, which packages under cdc must not know, and
// only the reader's goroutine ever asks.
package lookup
