// Package cloudflare purges Cloudflare zones by tag, by URL, by prefix of URLs, or
// all of them, through the v4 API: POST /zones/{zone_id}/purge_cache.
//
// One call of Purge is one request to each zone that it is about, and a nil from
// it means that the API answered each with 200 and success:true, which says that
// the purge is accepted; Cloudflare carries it out within moments and reports
// nothing further.
//
// A purge by URL is of the plain cache key: variants that a custom key makes by
// header, such as a device type, are reached by tag and prefix only.
//
// The package never retries (the lane does), never follows a redirect, takes
// nothing from CLOUDFLARE_* variables, reads the token file for every request,
// and never repeats the API's text in an error, because it can hold tags. Of
// the SDK it imports only the cache and option packages: its root links every
// other service of the API and costs a minute and a half of build time.
package cloudflare
