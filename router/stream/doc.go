// Package stream is every JetStream word of the pipeline: the stream and its
// subjects, the payload, publishing with acknowledgements, one durable
// consumer per sink, parking, trimming.
//
// One stream carries one pipeline. A message holds a batch of invalidations for
// one sink; between them run progress messages, each claiming that everything
// committed up to a position lies in the stream before it. The publisher keeps
// that true by publishing a claim only when every message before it was
// acknowledged.
//
// Retention is by limits and full means full (DiscardNew): nothing that a lane
// has not acknowledged is ever dropped to make room. Room is made by trimming
// what all lanes have acknowledged from the head; age, too, takes only that.
package stream
