package router

import (
	"log/slog"

	"github.com/walpurge/walpurge/cdc/condition"
)

// What the router logs as conditions; see package condition.
var (
	gaps       = condition.Text{Level: slog.LevelWarn, On: "gap in the line, flushing every sink"}
	tableGaps  = condition.Text{Level: slog.LevelWarn, On: "changes of some tables may have been missed, purging what rules derive from them"}
	notByRow   = condition.Text{Level: slog.LevelWarn, On: "what a large transaction changed is not known row by row, purging what rules derive from its tables"}
	notKept    = condition.Text{Level: slog.LevelWarn, On: "messages of a large transaction were not kept, purging all that they can name"}
	unusable   = condition.Text{Level: slog.LevelWarn, On: "a message asks for what cannot be purged; the rest of it is"}
	exceeded   = condition.Text{Level: slog.LevelWarn, On: "an expression of a rule needs too much work for a row; a condition counts as true, and what unknown names replaces a value"}
	collapsing = condition.Text{Level: slog.LevelInfo, On: "coarser values replace those of a large transaction"}
)

// Close ends the summaries in the log.
func (r *Router) Close() { r.conditions.Close() }
