// Package oracle decides which responses were stale. It is pure.
//
// Every row that the application shows has a version, and so has every list: a number from one
// sequence, set by a trigger, so that versions of one row rise in the order of its commits. A
// Commit says that a version of a row was written and when its COMMIT had returned, as the writer
// read its clock. A Response says when a client sent its request, and which versions it was shown.
//
// A response is stale if it shows a version of a row although a later version of it had been
// committed before the request was sent. Its age is the time from the first such commit to the
// request. A version committed while the request was under way makes nothing stale.
//
// Commits and responses may be recorded in any order, and by several goroutines. Judge is called
// when all of both are known.
package oracle
