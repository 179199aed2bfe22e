// Package cloudfront purges an Amazon CloudFront distribution by URL, by URL
// prefix, by cache tag, or all of it, through CreateInvalidation.
//
// A nil from Purge means that CloudFront has accepted the invalidation; it
// carries it out within a minute or so, and the package does not wait for that.
//
// Paths cost money, so a call that got no answer is repeated under the reference
// of the first attempt, which CloudFront then recognises. A later call never
// reuses a reference, even for the same paths: CloudFront would answer with the
// old invalidation and do nothing.
//
// Credentials come from the SDK's default chain (environment, shared files, web
// identity, the container's or the machine's role), are read when they are first
// needed, and are read again when AWS refuses them. The package lets the SDK
// neither retry nor log, follows no redirect, and repeats nothing of AWS's text
// in an error but its code and the request's id.
package cloudfront
