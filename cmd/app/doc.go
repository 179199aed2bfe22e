// Package app is the composition root: it builds the parts of the daemon from a
// configuration, starts their goroutines in order, and stops them in the
// reverse order. What runs for long runs because this package called its Run.
package app
