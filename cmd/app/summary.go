package app

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// summarize says in one sentence whether caches are fresh, and if not where, why,
// and what to type next. Clauses are ordered by what stands in the way of what:
// first the reader, then the stream, then sinks, then the slot.
func summarize(s *Status) (fresh bool, sentence string) {
	var clauses []string
	if s.Reader.State != string(postgres.Streaming) {
		clauses = append(clauses, notStreaming(&s.Reader))
	}
	if s.Reader.Blocked != "" {
		clauses = append(clauses, readerWaits(s))
	}
	var worst float64
	for i := range s.Sinks {
		sink := &s.Sinks[i]
		if sink.lag != nil {
			worst = max(worst, *sink.lag)
		}
		if c := stale(sink); c != "" {
			clauses = append(clauses, c)
		}
	}
	for i := range s.Replicas {
		if r := &s.Replicas[i]; r.Away {
			clauses = append(clauses, replicaIsAway(r))
		}
	}
	if fresh = len(clauses) == 0; fresh {
		clauses = append(clauses, fmt.Sprintf("FRESH: every sink within %.1f s", worst))
	}
	if c := slotInDanger(&s.Slot); c != "" {
		clauses = append(clauses, c)
	}
	for _, c := range []string{diskInDanger(&s.Stream), flushedLately(s), notReloaded(s)} {
		if c != "" {
			clauses = append(clauses, c)
		}
	}
	return fresh, strings.Join(clauses, "; ")
}

// try ends a clause with what to type next.
func try(clause, command string) string { return clause + ". Try: " + command }

func notStreaming(r *Reader) string {
	c := "NOT STREAMING since " + r.Since.Format(time.RFC3339) + ", " + r.State
	if r.Error != "" {
		c += ": " + r.Error
	}
	if r.State == string(postgres.Standby) {
		return try(c, "walpurge status --addr HOST:PORT, of the process that has the slot")
	}
	return try(c, "walpurge check")
}

func readerWaits(s *Status) string {
	if s.Reader.Blocked != "stream_full" {
		return try("STALE: the reader waits, "+s.Reader.Blocked, "walpurge check")
	}
	c := fmt.Sprintf("STALE: nothing is read, the stream is full (%s MiB)", thousands(uint64(s.Stream.LimitBytes>>20)))
	var most *Sink
	for i := range s.Sinks {
		if most == nil || s.Sinks[i].Backlog > most.Backlog {
			most = &s.Sinks[i]
		}
	}
	if most == nil || most.Backlog == 0 {
		return c
	}
	return try(c+" of what waits for "+most.Name, supersede(most))
}

func replicaIsAway(r *Replica) string {
	c := "STALE for readers of replica " + r.Name + ": purges do not wait for it"
	if r.Error != "" {
		return try(c+", "+r.Error, "walpurge check")
	}
	return try(c+", it is far behind", "walpurge status --watch")
}

// stale is the clause about a sink, empty if it is fresh.
func stale(s *Sink) string {
	switch {
	case s.lag == nil:
		return try("UNKNOWN at "+s.Name+": nothing purged since the start yet"+because(s), next(s))
	case *s.lag >= freshWithin.Seconds():
		lag := time.Duration(*s.lag * float64(time.Second)).Round(time.Second)
		c := fmt.Sprintf("STALE %s at %s: %s, %s messages waiting", lag, s.Name, strings.TrimPrefix(because(s), ", "), thousands(s.Backlog))
		return try(c+howLong(s), next(s))
	case s.Parked > 0:
		return try(fmt.Sprintf("STALE at %s: %s messages parked, which the sink refuses for good", s.Name, thousands(s.Parked)),
			"walpurge parked list --sink "+s.Name)
	}
	return ""
}

// because says what the lane is doing.
func because(s *Sink) string {
	c := ", "
	switch delivery.State(s.State) {
	case "", delivery.OK:
		if s.lag == nil {
			return ""
		}
		return ", catching up"
	case delivery.Gated:
		c += "gated"
		if len(s.Gates) > 0 {
			c += " by " + strings.Join(s.Gates, ", ")
		}
	case delivery.Paused:
		c += "paused by hand"
	case delivery.Blocked:
		c += "blocked"
		if s.Class == sinks.Lane.String() {
			c += " until somebody acts"
		}
	default:
		c += s.State
	}
	if s.Error != "" {
		c += ": " + s.Error
	}
	return c
}

// howLong says when the backlog may be through; of a sink that takes nothing
// there is nothing to say.
func howLong(s *Sink) string {
	switch delivery.State(s.State) {
	case delivery.Blocked, delivery.Paused, delivery.Gated:
		return ""
	}
	if s.DrainSeconds == nil || *s.DrainSeconds < 1 {
		return ""
	}
	d := time.Duration(*s.DrainSeconds * float64(time.Second))
	c := ", "
	if d < 2*time.Minute {
		c += strconv.Itoa(int(d.Seconds())) + " s"
	} else {
		c += thousands(uint64(d.Minutes())) + " min"
	}
	if s.RequestsPerSecond > 0 {
		c += " at " + strconv.FormatFloat(s.RequestsPerSecond, 'g', 2, 64) + " req/s"
	}
	return c
}

// longDrain is the time from which a coarse purge is worth a thought: it costs
// load at the origin.
const longDrain = 2 * time.Minute

// next is what to type about a sink that is not fresh.
func next(s *Sink) string {
	switch delivery.State(s.State) {
	case delivery.Blocked:
		return "walpurge check"
	case delivery.Paused:
		return "walpurge resume --sink " + s.Name
	case delivery.Gated:
		if len(s.Gates) == 0 || s.Gates[0] == "visible" || s.Gates[0] == "replicas" {
			return "walpurge check"
		}
	case delivery.OK, delivery.Throttled:
		if s.DrainSeconds != nil && *s.DrainSeconds >= longDrain.Seconds() {
			return supersede(s)
		}
	}
	return "walpurge status --watch"
}

// supersede is the coarse purge that may stand for all that waits.
func supersede(s *Sink) string {
	return "walpurge purge --sink " + s.Name + " " + s.coarse + " --supersede"
}

// coarseFlags are the flags that purge everything: the tag, where the flush plan
// is one tag that every object carries, else the plan.
func coarseFlags(plan []rules.Invalidation) string {
	if len(plan) == 1 && plan[0].Kind == rules.Tag && plainWord(plan[0].Value) {
		return "--tag " + plan[0].Value
	}
	return "--all"
}

// plainWord reports whether a shell takes the text as it is.
func plainWord(text string) bool {
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:/@", r)) {
			return false
		}
	}
	return text != ""
}

// slotInDanger is the clause about a slot that uses up what the server allows.
func slotInDanger(s *Slot) string {
	safe := int64(0)
	if s.SafeBytes != nil {
		safe = max(0, *s.SafeBytes)
	}
	near := s.SafeBytes != nil && s.RetainedBytes > 0 && float64(s.RetainedBytes) > 0.7*float64(s.RetainedBytes+safe)
	if s.State != "unreserved" && s.State != "lost" && !near {
		return ""
	}
	c := fmt.Sprintf("slot %s is near its limit (%s): %s MiB held back, %s MiB until it is lost",
		s.Name, s.State, thousands(uint64(max(0, s.RetainedBytes))>>20), thousands(uint64(safe)>>20))
	// Twice what is allowed now; whether the disk has it, only a human knows.
	return try(c, fmt.Sprintf(`psql "$ADMIN_URL" -c "ALTER SYSTEM SET max_slot_wal_keep_size = '%dMB'" -c "SELECT pg_reload_conf()"`,
		max(1024, (max(0, s.RetainedBytes)+safe)>>19)))
}

// thousands prints a number with commas.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
