// Package standbynames tells whether PostgreSQL's synchronous_standby_names can name a
// connection. Match reads the setting as the server does: syncrep_scanner.l, syncrep_gram.y, and
// SyncRepGetStandbyPriority in syncrep.c.
package standbynames
