// Package webhook hands invalidations to a service of the user's own, by one
// HTTP request with a JSON body: for caches that only the application itself can
// purge.
//
// The body is a fixed form, or what a CEL expression of the configuration makes
// of the batch. With a secret it is signed. A nil from Purge means that the
// service answered 2xx, which it must only do when the purge is done.
//
// Where the request goes is in the configuration alone: no value of a row is ever
// part of the URL, of the method or of a header, and no redirect is followed.
// The package never retries (the lane does), reads the secret's file for every
// request, and puts no URL, header or body into an error.
package webhook
