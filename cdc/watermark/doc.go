// Package watermark keeps the board on which every stage of the pipeline marks
// how far it is along the log.
//
// A mark says: all committed changes at or before this position are through
// here. Marks only move forward; a newer timeline is forward of an older one.
// Everything else that the product promises is read off the board: lag is the
// distance between two marks, a gate waits for one, what may be confirmed to
// PostgreSQL is one.
//
// The board is pure state: it starts no goroutine and reads no clock.
package watermark
