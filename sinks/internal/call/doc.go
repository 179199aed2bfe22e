// Package call is what the sinks that speak HTTP have in common: a client that
// goes nowhere but where it is sent, the reading of an answer, of a pause asked
// for and of a secret's file, and a memory of calls that failed.
//
// It decides nothing about what an answer means: every provider has its own
// mind about that. Its errors name no URL, no header and no body.
package call
