// Package load sends HTTP requests at fixed times, whatever the answers take: an open model.
//
// Each request has a time at which it is due, and its latency is measured from there, so that
// requests which wait behind a slow one count their wait (coordinated omission). The generator
// limits neither connections nor requests in flight; a request ends after Timeout at the latest and
// is an error then. A request that the generator itself sent more than Grace after it was due is
// late. Where more than 5 % are late, the generator and not the system was the limit, and the run
// is void.
//
// Closed measures what a system sustains: a fixed number of workers, each of which sends its next
// request when the answer to its last one is there.
package load
