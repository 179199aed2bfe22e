// Package shape describes what a watched table contains as far as the catalog tells, and judges
// what two descriptions of it differ in.
//
// PostgreSQL sends no row events when a partition is truncated, dropped, attached or detached, and
// none when ALTER TABLE or ALTER TYPE changes the values of existing rows. The reader in
// cdc/postgres therefore reads a [Table] for each watched table at every heartbeat. [Compare] sorts
// each difference from the one before into an [Outcome]: harmless, or a gap of what the rules derive
// from the table. Each cause is a cdc.TableCause, which is a metric label; docs/guarantees.md has the
// same table.
//
// The package reads nothing itself. Facts that only the server knows, and only few nodes need, are
// passed to Compare as [Facts].
package shape
