// Package invalidation holds the words that rules, router, stream, lanes and sinks share.
//
// A rule turns a row change into values, each of a Kind: a key, a tag, a URL. An Invalidation is
// one value with its kind and its rule. The router collects the values of one rule as an Item and
// those of one sink as a Batch; the stream carries each Batch as a Message, and a lane hands its
// Invalidations to a sink. An Origin says whether the change came from the WAL, from a gap or from
// an operator.
//
// The package is a leaf: it imports cdc only, so that a sink reaches neither YAML nor CEL through
// it. The table in kind.go is the only list of the kinds: other packages iterate it.
package invalidation
