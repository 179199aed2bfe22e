// Package httpsink is what the sinks that speak HTTP have in common: Base, which they embed, with
// the frame of Purge; a client that
// follows no redirect and reads no endless answer, the reading of an answer, of
// the pause that it asks for and of a secret's file, the forms of URLs, and a
// memory of calls that failed.
//
// It decides nothing about what an answer means: every provider has its own
// mind about that. Its errors name no URL, no header and no body. It never
// retries and never logs.
package httpsink
