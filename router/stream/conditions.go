package stream

import (
	"log/slog"

	"github.com/walpurge/walpurge/cdc/condition"
)

// What is logged as conditions; see package condition.
var (
	refuses     = condition.Text{Level: slog.LevelWarn, On: "the stream does not take messages, the reader waits", Off: "the stream takes messages again"}
	refusesElse = condition.Text{Level: refuses.Level, On: refuses.On, Off: "the stream does not take messages, for another reason now"}
	notTrimmed  = condition.Text{Level: slog.LevelWarn, On: "could not trim the stream", Off: "the stream is trimmed again"}
	notRead     = condition.Text{Level: slog.LevelWarn, On: "reading the lane failed, starting over from its floor", Off: "the lane is read again"}
	notReset    = condition.Text{Level: slog.LevelWarn, On: "starting over failed", Off: "the lane starts from its floor"}

	lost        = condition.Text{Level: slog.LevelError, On: "messages that the lane had not purged are gone from the stream, flushing the sink"}
	lostManual  = condition.Text{Level: slog.LevelError, On: "manual purges are gone from the stream, flushing the sink instead"}
	unreadable  = condition.Text{Level: slog.LevelError, On: "unreadable message in the stream, flushing the sink instead"}
	forgedClaim = condition.Text{Level: slog.LevelError, On: "a claim in the stream was published by someone else than this process, flushing the sink; see who may publish to the stream"}
	unencoded   = condition.Text{Level: slog.LevelError, On: "encode a flush"}
	claimLost   = condition.Text{Level: slog.LevelError, On: "encode a claim"}
)
