package router

import "github.com/walpurge/walpurge/cdc"

// findGap compares the newest claim in the stream with where the session
// starts. Nothing is ever confirmed to PostgreSQL before a claim of it is in
// the stream, so a slot that starts beyond the newest claim proves that changes
// between them never reached the stream, or were lost with its tail.
func findGap(last cdc.Claim, found bool, s cdc.Session) (cdc.Gap, bool) {
	gap := cdc.Gap{From: last.Position, To: s.Start}
	switch {
	case s.Leapt != "":
		gap.Reason = s.Leapt
	case (s.SlotCreated || s.SlotUnread) && !found:
		// A first start: nothing was ever promised.
		return cdc.Gap{}, false
	case s.SlotCreated:
		gap.Reason = cdc.GapSlotLost
	case !found:
		gap.Reason = cdc.GapStreamBehind
	case last.Position.SystemID != s.Start.SystemID:
		gap.Reason = cdc.GapSystemChanged
	case last.Position.Timeline == s.Start.Timeline && last.Position.LSN < s.Start.LSN:
		gap.Reason = cdc.GapStreamBehind
	case last.Position.Timeline < s.Start.Timeline && last.Position.LSN < s.Start.LSN:
		// The slot survived a promotion, but was confirmed beyond our claims.
		gap.Reason = cdc.GapStreamBehind
	default:
		return cdc.Gap{}, false
	}
	return gap, true
}
