// Package cdc is the vocabulary of change data capture that every other
// package speaks: log positions, row changes, and the stamp that an
// invalidation carries through the pipeline.
//
// It holds values only. It opens no connection, starts no goroutine, reads no
// clock, and imports nothing but the standard library.
package cdc
