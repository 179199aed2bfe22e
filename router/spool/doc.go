// Package spool keeps records until it is known whether they are needed: a little of them
// in memory, the rest in a file that has no name, so that whatever becomes of the process,
// nothing of it stays behind.
package spool
