// Package bunny purges a pull zone of Bunny CDN by tag, by URL, or all of it, through the API:
// POST /pullzone/{id}/purgeCache and POST /purge?url=.
//
// One request carries one tag or one URL. A nil from Purge means that the API accepted them all.
//
// Tags and URLs of Bunny may hold wildcards, so what a row puts into a value could purge more than
// its rule names. A value with a * is refused. So are an empty tag, which would purge the whole
// zone, and a URL whose path ends with a slash, which would purge all that begins with it; the key
// exact_paths allows those for zones where the API can be asked for the path alone.
//
// Documented by Bunny (docs.bunny.net, Purge Cache and Purge URL): the requests and the header
// AccessKey, 1,024 bytes for the header CDN-Tag, wildcards and a slash at the end of a URL,
// exactPath, which has an effect only while the zone does not ignore query strings, no purges by
// tag with Perma-Cache, 429, and 5 purges of exact URLs a second with a burst of 120 for an account.
// Taken from other sources: that a tag is compared with the whole CDN-Tag header, so that a header
// with several tags needs wildcards around the tag (tag_pattern). Guessed: that a purge by tag and
// one of the whole zone spend the same budget as an exact URL, that an escaped wildcard or slash in
// a URL may mean the same as a bare one, and that an answer without a body, or with JSON, is the
// API's.
//
// The package never retries (the lane does), never follows a redirect, reads the file of the key for
// every request, and never repeats the API's text in an error, because it can hold values.
package bunny
