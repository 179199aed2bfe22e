// Package pgoutput decodes the messages of PostgreSQL's built-in logical
// decoding plugin, protocol version 2, into the vocabulary of package cdc. Version 1
// is the part of it without blocks of transactions that have not ended.
//
// It is pure: bytes in, values out, no I/O and no clock. A message that may be as large as a row
// can be, 1 GiB, is read through Thin first, which keeps only the values that are read. Decoding a row event
// allocates nothing once the scratch space has grown to the widest table; the
// values alias the bytes given and are valid until the next call of Decode.
// Every read is bounds-checked: no input makes it panic, and an input that it
// does not understand in full is an error, never a skip.
//
// The formats are those of the PostgreSQL manual, "Logical Replication Message
// Formats".
package pgoutput
