// Package edge is a stand-in for a CDN: a caching reverse proxy with the purge
// API of Cloudflare, for the demo and for tests. It is strict where the real one
// is strict, so that what passes here is not refused there.
//
// It owns its cache and the log of the requests to its API. A stored response
// stays until it is purged or crowded out, whatever its Cache-Control says about
// age, so that a missed purge shows. With ObeyCacheControl it goes by s-maxage, max-age,
// stale-while-revalidate, Age and Vary as a shared cache does, and sends one of several concurrent
// requests for a response to the origin. It never asks the origin with conditions.
//
// What is imitated, and how far it is known (November 2026):
//
// Documented by Cloudflare: the path, the five kinds of purge and their forms;
// 100 items a request, 500 files on Enterprise; the token buckets per account
// and plan; the rates of URLs; 1,200 requests in 5 minutes, then everything is
// blocked for 5 minutes; the headers Ratelimit, Ratelimit-Policy (their form)
// and retry-after, the last on 429 only; tags of at most 1,024 characters of
// printable ASCII, compared without case; Cache-Tag taken off the response, at
// most 16 KB of it; prefixes without scheme, query or fragment and with at most
// 31 slashes; GET /user/tokens/verify and the status that it tells; success for
// what was not cached, and no count; a purge takes effect within 150 ms in half of
// all cases, after the reply; CF-Cache-Status.
//
// Observed by others, in public threads: codes 1012 (no kind, or two), 1014 (not
// an array), 971 (429), 10000 (token), 7003 with 7000 (route), 6003 with 6105
// in its chain (headers), 6007 (JSON), 1000 (verify of a token that it does not
// know); and that an unfit tag gets HTTP 200 with success:false and the codes
// 1100 (too long) or 1315 (not printable), each with 1016.
//
// Guessed: code 1999, which replaces every number that was not reported; the HTTP
// status of those refusals; that a request with one unfit tag purges none of its
// tags; that the block of 5 minutes slides, is per token, counts refused
// requests and is not prolonged by more of them; that refused requests take
// nothing from the buckets; the names in the Ratelimit headers, and that they
// tell the scarcer of the two limits; that tags past 16 KB are ignored; that a URL
// with a wildcard, a user, a fragment or more than 16 KB is refused, and so is a
// prefix of a host outside the zone.
//
// Of CloudFront's API, as its reference documents it: CreateInvalidation and GetInvalidation, with
// paths, wildcards at their end and tags; the forms of paths; the quotas of 3,000 paths and 15 wildcards in
// progress; caller references, of which the same one with the same paths does nothing again. A
// signature must be there and is not verified, and faults are not injected.
//
// Not imitated: 200 requests a second per IP address, environments of a zone,
// request headers as part of a cache key (they are accepted and ignored), API
// keys with e-mail addresses, tiered caches.
package edge
