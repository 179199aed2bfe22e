// Package fastly purges a Fastly service by surrogate key, by URL, or all of it,
// through the API: POST /service/{id}/purge, POST /purge/{url} and
// POST /service/{id}/purge_all.
//
// One call of Purge is one request, or one for each URL, and a nil from it means
// that Fastly accepted them; caches follow within some hundred milliseconds. With Soft, keys and URLs are
// marked stale and not removed, so that the service may serve them while it
// fetches again; everything is always removed, since Fastly has no soft form of it.
//
// Documented by Fastly: the requests and their headers, 256 keys in one request,
// keys of printable ASCII separated by spaces, the scopes of tokens, 429 with the
// headers Fastly-RateLimit-Remaining and Fastly-RateLimit-Reset. Taken from other
// sources: 100,000 purges an hour for a customer, the fields of error answers.
// Guessed: that a batch counts as one purge, and that a URL which Fastly answers
// with 404 is one of a host that no service has.
//
// The package never retries (the lane does), never follows a redirect, takes
// nothing from the environment but the proxy, reads the token file for every
// request, and never repeats the API's text in an error, because it can hold keys.
package fastly
