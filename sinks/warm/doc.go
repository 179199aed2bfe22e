// Package warm fetches pages through an edge cache once they were purged there, so that the next visitor does not
// wait for the origin. It purges nothing and promises nothing: a page that is not fetched is fetched for its next
// visitor.
//
// Lane is the queue of one configured sink of the kind. It takes the URLs of batches, waits until the edges have
// purged them, and drops those that have become too old or for which there is no room. Fetcher makes the requests.
// Races finds the requests during which an edge purged what they fetched: an edge may store such a response although
// it was made before the change. The lane purges these pages once more.
//
// Fetcher and List, which reads files of URLs and sitemaps, are also what `walpurge warm` is made of.
package warm
