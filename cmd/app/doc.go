// Package app is the composition root: it builds the parts of the daemon from a
// configuration, starts their goroutines in order, and stops them in the
// reverse order. Only this package starts long-lived goroutines.
package app
