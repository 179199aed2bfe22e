// Package schemas tries random shapes of a database: partitioned tables, inheritance, identities,
// types and generated columns, and what is done to them while walpurge runs: DDL, changes of
// partitions, row changes. The reader, the router and the rules are real, and so is PostgreSQL;
// what the router publishes is compared with what readers of a cache would have seen.
//
// A seed makes a script: rules, a schema, and steps. After each step the test compares what the
// queries behind the cache's keys answer with what they answered before. A key whose answer has
// changed must have been purged by a batch of a later position, or the table must have a problem
// that makes the status STALE. Each statement runs on a database without walpurge too, and must have
// the same outcome there.
package schemas
