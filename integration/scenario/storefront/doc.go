// Package storefront runs the system of deploy/examples/storefront: a NestJS application that reads
// from two standbys 150 ms behind the primary, with a stand-in for Cloudflare in front of it.
//
// It owns the standbys, the edge and the application of a variant, and the load profile. The clock
// of the edge runs faster than ours by the scenario's factor: Cache-Control has whole seconds.
package storefront
