package router

import (
	"fmt"

	"github.com/walpurge/walpurge/cdc"
)

// findGap compares the newest claim in the stream with where the session
// starts. Nothing is ever confirmed to PostgreSQL before a claim of it is in
// the stream, so a slot that starts beyond the newest claim proves that changes
// between them never reached the stream, or were lost with its tail.
func findGap(last cdc.Claim, found bool, s cdc.Session) (cdc.Gap, bool) {
	gap := cdc.Gap{From: last.Position, To: s.Start}
	switch {
	case s.Leapt != "":
		gap.Reason = s.Leapt
	case (s.SlotCreated || s.SlotUnread) && !found && len(s.Inactive) > 0:
		// Caches may hold what the other pipeline has not purged.
		gap.Reason = cdc.GapRenamed
	case (s.SlotCreated || s.SlotUnread) && !found:
		// A first start: nothing was ever promised.
		return cdc.Gap{}, false
	case s.SlotCreated:
		gap.Reason = cdc.GapSlotLost
	case !found:
		gap.Reason = cdc.GapStreamBehind
	case last.Position.Zero():
		gap.Reason = cdc.GapUnprovenClaim
	case last.Position.SystemID != s.Start.SystemID:
		gap.Reason = cdc.GapSystemChanged
	case !last.Owner().Is(s.Owner()):
		gap.Reason = cdc.GapDatabaseChanged
	case last.Position.Timeline == s.Start.Timeline && !s.Has(last.Position):
		gap.Reason = cdc.GapUnprovenClaim
	case last.Position.Timeline == s.Start.Timeline && last.Position.LSN < s.Start.LSN:
		gap.Reason = cdc.GapStreamBehind
	case last.Position.Timeline < s.Start.Timeline && !s.Has(last.Position):
		gap.Reason = cdc.GapTimelineForked
	case last.Position.Timeline < s.Start.Timeline && last.Position.LSN < s.Start.LSN:
		// The slot survived a promotion, but was confirmed beyond our claims.
		gap.Reason = cdc.GapStreamBehind
	default:
		return cdc.Gap{}, false
	}
	return gap, true
}

// Foreign refuses a stream, shared by several processes, whose newest claim is of another database than the
// pipeline's, unless formerly names that one: two pipelines of one name would take the stream from each other, and
// each would purge the caches of the other. formerly is a system identifier, or that and the OID of a database.
func Foreign(pipeline string, last, now cdc.Owner, formerly string) error {
	switch {
	case last.Is(now), formerly == last.SystemID, formerly == last.String():
		return nil
	case last.SystemID == now.SystemID:
		return fmt.Errorf("the stream of pipeline %[1]q on this NATS server belongs to the database with the OID %[2]d, and postgres.url is that with the OID %[3]d of the same cluster; "+
			"give one of the two pipelines another name, or NATS servers of their own; or, if this database replaced the other, "+
			"write `formerly: \"%[4]s\"` under `postgres`, which flushes every sink once", pipeline, last.Database, now.Database, last)
	}
	return fmt.Errorf("the stream of pipeline %[1]q on this NATS server belongs to the database cluster with the system identifier %[2]s, and postgres.url is that with %[3]s; "+
		"give one of the two pipelines another name, or NATS servers of their own; or, if this database replaced the other, "+
		"write `formerly: \"%[2]s\"` under `postgres`, which flushes every sink once", pipeline, last.SystemID, now.SystemID)
}

// former refuses a server whose log has less than was streamed from the cluster already,
// and that does not say so by a new timeline. Its positions count for nothing until they
// pass the newest claim, so nothing could be told to be purged, nor confirmed. On a shared stream others can
// have written a claim beyond the log; that is a gap, so that it does not stop the pipeline.
func former(last cdc.Position, s cdc.Session, shared bool) error {
	switch {
	case last.SystemID != s.Start.SystemID:
		return nil
	case s.Start.Timeline < last.Timeline:
		return fmt.Errorf("the server is on timeline %d, and timeline %d was streamed before: it is a former primary, or was restored; "+
			"point postgres.url at the present primary", s.Start.Timeline, last.Timeline)
	case !shared && s.Start.Timeline == last.Timeline && !s.Has(last):
		return fmt.Errorf("the server's log ends at %s, and %s was streamed before: it was put back to an earlier state; "+
			"point postgres.url at the present primary, or stop the daemon, delete its stream (data_dir) and start it, which flushes every sink", s.End, last.LSN)
	}
	return nil
}
