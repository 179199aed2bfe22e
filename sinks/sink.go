package sinks

import (
	"context"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Sink carries out invalidations on one cache.
type Sink interface {
	// Purge blocks until the cache has acknowledged every invalidation, or
	// returns why it did not. It may be called again with the same
	// invalidations (purges are idempotent) and must then do them again. The
	// caller keeps within the sink's Limits and never calls concurrently.
	//
	// A nil error means all were carried out. A *BatchError tells the ones that
	// failed from the ones that did not; any other error means that none may be
	// taken as done. ClassOf says what a retry can do about it. No error ever
	// carries a secret.
	Purge(ctx context.Context, batch []invalidation.Invalidation) error
}

// Limits bound one call of Purge. How often calls are made is for Budgets to say.
type Limits struct {
	// Items is the largest number of invalidations in one call.
	Items int
	// ByKind replaces Items for the kinds where it is not 0; it needs OneKind.
	ByKind [invalidation.NumKinds]int
	// OneKind asks that all invalidations of one call have the same Kind.
	OneKind bool
}
