// Package httpsink holds what sinks that speak to an HTTP API have in common: a
// client that follows no redirect and reads no endless answer, a token file, the
// pause that an answer asks for, and errors without URLs.
//
// It sorts nothing: what a status means is for the sink to say. It never retries
// and never logs.
package httpsink
