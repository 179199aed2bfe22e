// Package sinks says what a sink is: something that can carry out
// invalidations on one cache, and how it reports that it could not.
//
// The seam is one method. Names, metrics, budgets, gates, retries and parking
// live in the lane that calls it (package delivery), so a new sink is one
// folder with a client in it.
package sinks
