// Package router turns the changes of a session into batches of invalidations,
// one stream of batches per sink, and claims between them.
//
// It is the reader's Handler. Rows stop here: what leaves are keys and tags.
// Batches form by draining: what one read brought is evaluated, deduplicated
// per sink and published when the reader rests, so a quiet database is answered
// at once and a busy one in large batches, without a timer. A claim never
// covers more than whole transactions. What rules ask the database is asked at the
// same moment, before the batch, and what has no answer is unknown. A table that
// entered or left the publication is forgotten: what its rules can have made of it
// is purged.
//
// Values of rules with collapse: wait for the end of their transaction, or for
// the step that they exceed, in a tally of bounded size. They are handed on
// earlier where a batch of a later sink would overtake them.
package router
