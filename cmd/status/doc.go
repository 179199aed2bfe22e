// Package status says what condition a pipeline is in: as a document, and in one sentence.
//
// [Status] is the document: everything that the daemon knows of itself at one moment.
// [Summarize] derives the sentence and the value fresh from it, and nothing else does: the
// status page, `walpurge status`, /api/v1/status and the metric walpurge_fresh show its
// result, so they cannot disagree. [Unfit] finds what rules cannot read of tables.
//
// The package is pure. cmd/app collects a Status; this package judges it.
package status
