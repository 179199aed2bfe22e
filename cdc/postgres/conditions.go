package postgres

import (
	"log/slog"
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// What the reader logs as conditions; see package condition.
var (
	heartbeatLost      = condition.Text{Level: slog.LevelWarn, On: "heartbeat lost its connection, lag grows until it is back", Off: "heartbeat is back"}
	interrupted        = condition.Text{Level: slog.LevelWarn, On: "replication interrupted, reconnecting", Off: "streaming again"}
	interruptedStandby = condition.Text{Level: interrupted.Level, On: interrupted.On, Off: "the database answers again"}
	standby            = condition.Text{Level: slog.LevelInfo, On: "another process streams from the slot, waiting for it", Off: "the slot is free"}
	wrongPublication   = condition.Text{Level: slog.LevelError, On: "the publication is not what the rules need", Off: "a problem of the publication is solved"}
	misfit             = condition.Text{Level: slog.LevelError, On: "a table does not fit its rules any more", Off: "the table fits its rules again"}
	covered            = condition.Text{Level: slog.LevelWarn, On: "a table does not fit its rules, and unknown covers that", Off: "the table fits its rules again"}
	moreProblems       = condition.Text{Level: slog.LevelError, On: "there are more problems of publication and tables, see walpurge status", Off: "the further problems of publication and tables are solved"}
	readableAgain      = condition.Text{Level: slog.LevelWarn, On: "rules can read tables again that they could not read, what is derived from them is purged"}

	namedSynchronous = condition.Text{Level: slog.LevelWarn, On: "synchronous_standby_names can name this connection, which is no standby: reporting no flush position, so that no commit depends on it", Off: "synchronous_standby_names cannot name this connection any more"}

	behind      = condition.Text{Level: slog.LevelInfo, On: "the stream stays behind, reading the backlog through SQL"}
	heldUp      = condition.Text{Level: slog.LevelWarn, On: "standbys in synchronized_standby_slots lack a part of the log, and the server does not send it before they have it; start them, or take their slots out of the setting"}
	noSQL       = condition.Text{Level: slog.LevelWarn, On: "the server does not let the backlog be read through SQL, streaming it"}
	chunkFailed = condition.Text{Level: slog.LevelWarn, On: "the server cannot return a part of the backlog through SQL, streaming that part"}
	chunkLate   = condition.Text{Level: slog.LevelInfo, On: "a part of the backlog takes the server too long through SQL, streaming that part"}

	ignoredOwn          = condition.Text{Level: slog.LevelWarn, On: "a transaction has more or larger messages with walpurge's own prefixes than walpurge writes, ignoring them: a role of this database writes them"}
	undecoded           = condition.Text{Level: slog.LevelWarn, On: "the server cannot decode a transaction that has not ended; what is in the log by now is read once it has ended"}
	unconvertible       = condition.Text{Level: slog.LevelWarn, On: "the server cannot convert a value to UTF-8; in what is in the log by now, values with characters beyond ASCII are unknown to rules"}
	noHistory           = condition.Text{Level: slog.LevelWarn, On: "the server cannot tell where its timeline began"}
	slotLostAgain       = condition.Text{Level: slog.LevelError, On: "the server has invalidated the slot: changes are lost, making a new one"}
	tablesGone          = condition.Text{Level: slog.LevelError, On: "rules watch tables that are gone, going on without them"}
	unpublishable       = condition.Text{Level: slog.LevelError, On: "rules watch tables that cannot be published, going on without them"}
	nearMiss            = condition.Text{Level: slog.LevelWarn, On: "tables that nearly match a pattern of the rules are not watched", Off: "no table nearly matches a pattern of the rules any more"}
	changedByOthers     = condition.Text{Level: slog.LevelWarn, On: "tables entered or left the publication without this daemon, what is derived from them is purged"}
	changedShape        = condition.Text{Level: slog.LevelWarn, On: "tables changed without row events, what is derived from them is purged"}
	publishedMore       = condition.Text{Level: slog.LevelInfo, On: "published what rules read"}
	slotMoved           = condition.Text{Level: slog.LevelWarn, On: "the slot was moved past what was not read"}
	passedOver          = condition.Text{Level: slog.LevelError, On: "the server cannot decode a transaction, moving the slot past it, every sink is flushed; if a value is too large, leave its column out of the publication (postgres.column_lists)"}
	leftSlot            = condition.Text{Level: slog.LevelWarn, On: "another pipeline left a slot for the same tables that no process reads; if this pipeline was renamed, drop that slot"}
	publicationReplaced = condition.Text{Level: slog.LevelWarn, On: "the slot lies before the publication was created, and cannot see it there: moving the slot, every sink is flushed"}
)

// streams logs that a session has begun.
func (r *Reader) streams(from cdc.Position, large bool) {
	r.conditions.At(standby).End()
	if c := r.conditions.At(interrupted); c.On() {
		c.End("slot", r.cfg.Slot, "from", from.String())
		return
	}
	r.opts.Logger.Info("streaming", "slot", r.cfg.Slot, "from", from.String(), "large_transactions_while_they_run", large)
}

// problemsLogged is how many problems have lines of their own. With a table for each tenant there
// may be thousands, and status lists them.
const problemsLogged = 5

// catchesUp logs that a session reads its backlog.
func (r *Reader) catchesUp(s cdc.Session) {
	r.conditions.At(standby).End()
	r.opts.Logger.Info("catching up", "slot", r.cfg.Slot, "from", s.Start.String(), "bytes", int64(s.End)-int64(s.Start.LSN))
}

// logProblems logs problems that are new, and those that are over.
func (r *Reader) logProblems(before, now []Problem) {
	most := func(all []Problem) []Problem { return all[:min(len(all), problemsLogged)] }
	at := func(p Problem) condition.Condition {
		switch {
		case p.Covered:
			return r.conditions.At(covered, "err", p.Text)
		case len(p.Rules) > 0:
			return r.conditions.At(misfit, "err", p.Text)
		}
		return r.conditions.At(wrongPublication, "err", p.Text)
	}
	for _, p := range most(before) {
		if !slices.ContainsFunc(most(now), p.same) {
			at(p).End()
		}
	}
	for _, p := range most(now) {
		if !slices.ContainsFunc(most(before), p.same) {
			at(p).Observe()
		}
	}
	if rest := len(now) - problemsLogged; rest > 0 {
		r.conditions.At(moreProblems).Observe("count", rest)
	} else {
		r.conditions.At(moreProblems).End()
	}
}
