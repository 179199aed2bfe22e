package status

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// freshWithin is the lag, in seconds, below which a sink counts as fresh. An idle pipeline
// is claimed once a second and checked once a second, so a healthy one stays well below.
const freshWithin = 10

// Summarize says in one sentence whether caches are fresh, and if not where, why, and what
// to type next. FRESH within N seconds means: every committed change that a rule matches
// and that is older than N seconds has been purged; nothing is parked; no problem is open
// that `unknown` does not cover; no sink has failed at its newest attempt while something
// waits for it. Each clause names one cause, and with it what follows from it.
func Summarize(s *Status) (fresh bool, sentence string) {
	clauses := openProblems(s.Problems)
	switch {
	case !s.Reader.Streams():
		clauses = append(clauses, notStreaming(&s.Reader, s.Leader))
	case s.Reader.CatchUp != nil:
		clauses = append(clauses, catchingUp(s.Reader.CatchUp))
	case !s.Reader.Compared:
		clauses = append(clauses, try("UNKNOWN: tables and rules have not been compared yet", "walpurge status --watch"))
	}
	if s.Stream.Denied != "" {
		clauses = append(clauses, try("STALE: the NATS server refuses what the daemon needs: "+s.Stream.Denied, "walpurge check"))
	}
	if s.Reader.State != string(postgres.Standby) { // else the sinks are the leader's, and what is known of them here says nothing
		clauses = append(clauses, causes(s)...)
	}
	for i := range s.Replicas {
		if r := &s.Replicas[i]; r.Away {
			clauses = append(clauses, replicaIsAway(r))
		}
	}
	if fresh = len(clauses) == 0; fresh {
		var worst float64
		for i := range s.Sinks {
			worst = max(worst, *s.Sinks[i].QueueLag)
		}
		clauses = append(clauses, fmt.Sprintf("FRESH: every sink within %.1f s", worst))
	}
	for _, c := range []string{slotInDanger(&s.Slot), diskInDanger(&s.Stream), flushedLately(s), cameBackLately(s), untold(s), notReloaded(s), pausedIdle(s)} {
		if c != "" {
			clauses = append(clauses, c)
		}
	}
	return fresh, strings.Join(clauses, "; ")
}

// try ends a clause with what to type next.
func try(clause, command string) string { return clause + ". Try: " + command }

// untold names the caches whose return with what was purged would go unnoticed.
func untold(s *Status) string {
	var names []string
	for i := range s.Sinks {
		if s.Sinks[i].Untold != "" {
			names = append(names, s.Sinks[i].Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return try("it would go unnoticed if "+list(names)+" came back with what was purged", "walpurge check")
}

// maxProblems is how many problems the sentence names.
const maxProblems = 3

func openProblems(all []Problem) []string {
	var clauses []string
	open := 0
	for i := range all {
		p := &all[i]
		if p.Covered {
			continue
		}
		if open++; open > maxProblems {
			continue
		}
		at := ""
		if len(p.Sinks) > 0 {
			at = " at " + list(p.Sinks)
		}
		clauses = append(clauses, "STALE"+at+": "+p.Text)
	}
	if open == 0 {
		return nil
	}
	last := &clauses[len(clauses)-1]
	if more := open - len(clauses); more > 0 {
		*last += fmt.Sprintf(" (and %s)", count(uint64(more), "more problem"))
	}
	*last = try(*last, "walpurge check")
	return clauses
}

func notStreaming(r *Reader, leader cdc.Leader) string {
	c := "NOT STREAMING since " + r.Since.Format(time.RFC3339) + ", " + r.State
	if r.State != string(postgres.Standby) {
		if r.Error != "" {
			c += ": " + r.Error
		}
		return try(c, "walpurge check")
	}
	switch {
	case leader.Address != "":
		return try(c+": "+leader.String()+" leads", "walpurge status --addr "+leader.Address)
	case leader.Host != "":
		c += ": a process on host " + leader.Host + " leads"
	case r.Error != "":
		c += ": " + r.Error
	}
	return try(c, "walpurge status --addr HOST:PORT, of the process that has the slot")
}

// catchingUp says how far the reader is behind.
func catchingUp(c *CatchUp) string {
	clause := "STALE: catching up with a backlog, " + mebibytes(int64(c.LeftBytes)) + " of the log left"
	if c.Seconds != nil {
		clause += ", about " + duration(time.Duration(*c.Seconds*float64(time.Second)).Round(time.Second))
	}
	return try(clause, "walpurge status --watch")
}

// causes are the clauses about sinks and a reader that waits: one for each sink that is not
// fresh for a reason of its own.
func causes(s *Status) []string {
	waiting := make(map[int][]string) // by the sink that is the cause
	for i := range s.Sinks {
		if c := causeOf(s.Sinks, i); c != i {
			waiting[c] = append(waiting[c], s.Sinks[i].Name)
		}
	}
	reader, full := readerWaits(s)
	var clauses []string
	for i := range s.Sinks {
		sink := &s.Sinks[i]
		c, next := stale(s, sink)
		if c == "" || causeOf(s.Sinks, i) != i {
			continue
		}
		switch names := waiting[i]; len(names) {
		case 0:
		case 1:
			c += "; " + names[0] + " waits for it"
		default:
			c += "; " + list(names) + " wait for it"
		}
		if full >= 0 && causeOf(s.Sinks, full) == i {
			c, reader = c+"; nothing is read, because the stream is full ("+mebibytes(s.Stream.LimitBytes)+") of what waits for "+s.Sinks[full].Name, ""
		}
		clauses = append(clauses, try(c, next))
	}
	if reader != "" {
		clauses = append([]string{reader}, clauses...)
	}
	return clauses
}

// causeOf is the sink for which another one waits, through any number of gates; a sink that
// waits for none is its own cause.
func causeOf(all []Sink, i int) int {
	for range all {
		next := i
		if delivery.State(all[i].State) == delivery.Gated {
			for n := range all {
				if n != i && slices.Contains(all[i].Gates, all[n].Name) && held(&all[n]) {
					next = n
				}
			}
		}
		if next == i {
			return i
		}
		i = next
	}
	return i
}

// held reports that a sink purges nothing now.
func held(s *Sink) bool {
	switch delivery.State(s.State) {
	case delivery.Blocked, delivery.Paused, delivery.Gated, delivery.Throttled, delivery.Flushing:
		return true
	}
	return false
}

// CanDrain reports that the time which a sink's backlog takes can be estimated: neither the
// sink nor one that it waits for is held until somebody acts.
func CanDrain(all []Sink, i int) bool {
	switch delivery.State(all[causeOf(all, i)].State) {
	case delivery.Blocked, delivery.Paused:
		return false
	}
	return true
}

// readerWaits is the clause about a reader whose messages the stream does not take, empty
// if it does, and the sink that fills the stream, -1 if none does.
func readerWaits(s *Status) (clause string, full int) {
	if s.Reader.Stuck != "" {
		return try("STALE: nothing is read, "+s.Reader.Stuck+"; restart the daemon", "walpurge status --watch"), -1
	}
	switch s.Reader.Blocked {
	case "":
		return "", -1
	case "stream_full":
	default:
		return try("STALE: the reader waits, "+s.Reader.Blocked, "walpurge check"), -1
	}
	full = -1
	for i := range s.Sinks {
		if s.Sinks[i].Backlog > 0 && (full < 0 || s.Sinks[i].Backlog > s.Sinks[full].Backlog) {
			full = i
		}
	}
	return try("STALE: nothing is read, because the stream is full ("+mebibytes(s.Stream.LimitBytes)+")", "walpurge status --watch"), full
}

func replicaIsAway(r *Replica) string {
	c := "STALE for readers of replica " + r.Name + ": purges do not wait for it"
	if r.Error != "" {
		return try(c+", "+r.Error, "walpurge check")
	}
	return try(c+", it is far behind", "walpurge status --watch")
}

// stale is the clause about a sink and what to type next, empty if the sink is fresh or
// lags only because the reader does not read.
func stale(st *Status, s *Sink) (clause, next string) {
	state := delivery.State(s.State)
	reads := st.Reader.Streams() && st.Reader.Blocked == "" && st.Reader.Stuck == ""
	if !reads && s.Backlog == 0 && (state == "" || state == delivery.OK) && s.Parked == 0 && s.Restoring == "" {
		return "", ""
	}
	failed := state == delivery.Blocked || state == delivery.Throttled && s.Backlog > 0
	switch {
	case s.QueueLag == nil && (s.Restoring == "" || failed || state == delivery.Flushing):
		purged := "nothing has been purged"
		if s.OthersGo && len(s.Stuck) > 0 {
			purged = "not everything has been purged"
		}
		return "UNKNOWN at " + s.Name + ": " + purged + " since the start" + because(s, ", "), command(st, s)
	case s.QueueLag != nil && late(*s.QueueLag), failed, state == delivery.Flushing:
		lag := time.Duration(*s.QueueLag * float64(time.Second)).Round(time.Second)
		c := "STALE " + duration(lag) + " at " + s.Name + because(s, ": ")
		switch waiting := stuckValues(s); {
		case waiting > 0:
			c += ", " + count(waiting, "value") + " waiting"
		case s.Backlog > 0:
			c += ", " + count(s.Backlog, "message") + " waiting"
		}
		return c + howLong(s), command(st, s)
	case s.Restoring == RestoringUnknown:
		return "UNKNOWN at " + s.Name + ": whether the cache holds again what was purged, it has not answered since the start", command(st, s)
	case s.Restoring != "":
		return "STALE at " + s.Name + ": what was purged may have come back (" + s.Restoring + ") and is purged again", command(st, s)
	case s.Parked > 0:
		return "STALE at " + s.Name + ": " + count(s.Parked, "message") + " parked and not purged", "walpurge parked list --sink " + s.Name
	}
	return "", ""
}

// stuckValues is how many values of stuck kinds wait; 0 if other kinds wait, too.
func stuckValues(s *Sink) (n uint64) {
	if !s.OthersGo {
		return 0
	}
	for i := range s.Stuck {
		n += uint64(s.Stuck[i].Values)
	}
	return n
}

// pausedOnRequest says since when an operator has paused a sink, who may be gone by now, and for how long.
func pausedOnRequest(s *Sink) string {
	c := "paused on request"
	if s.PausedFor > 0 {
		c += " " + duration(s.PausedFor.Round(time.Second)) + " ago"
	}
	if !s.PausedUntil.IsZero() {
		c += " until " + s.PausedUntil.UTC().Format(time.RFC3339)
	}
	return c
}

// pausedIdle names the sinks that are paused while nothing waits for them: that makes no cache stale yet.
func pausedIdle(s *Status) string {
	var clauses []string
	for i := range s.Sinks {
		if sink := &s.Sinks[i]; sink.PausedFor > 0 && sink.Backlog == 0 {
			clauses = append(clauses, sink.Name+" is "+pausedOnRequest(sink)+". Try: walpurge resume --sink "+sink.Name)
		}
	}
	return strings.Join(clauses, "; ")
}

// late reports a lag that prints as 10.0 s or more.
func late(seconds float64) bool { return seconds >= freshWithin-0.05 }

// because says what holds the lane back, after the separator.
func because(s *Sink, separator string) string {
	failure := s.Error
	switch delivery.State(s.State) {
	case "", delivery.OK:
		if s.QueueLag == nil {
			return ""
		}
		return separator + "catching up"
	case delivery.Gated:
		c := separator + "gated"
		if len(s.Gates) > 0 {
			c += " by " + list(s.Gates)
		}
		return c
	case delivery.Paused:
		return separator + pausedOnRequest(s)
	case delivery.Throttled:
		c := separator + "throttled by " + provider(s.Kind)
		switch {
		case strings.Contains(failure, "429"):
			return c + " (429)"
		case failure != "":
			return c + ": " + failure
		}
		return c
	case delivery.Flushing:
		return separator + "being flushed"
	case delivery.Blocked:
		if failure == "" {
			failure = "blocked"
		}
		if s.Class == sinks.Lane.String() {
			failure += ", and no retry helps until that is corrected"
		}
		return separator + failure
	}
	return separator + s.State
}

// provider is the name of what stands behind a kind of sink.
func provider(kind string) string {
	names := map[string]string{"cloudflare": "Cloudflare", "cloudfront": "CloudFront", "fastly": "Fastly", "varnish": "Varnish", "valkey": "Valkey"}
	if name, found := names[kind]; found {
		return name
	}
	return "the " + kind
}

// howLong says when the backlog may be through, where that can be estimated.
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

// A coarse purge costs load at the origin, so it is proposed late: for a backlog that takes
// longDrain and more, of a sink that has been stale for longDebt, or while the stream is
// fuller than nearlyFull.
const (
	longDrain  = 2 * time.Minute
	longDebt   = 15 * time.Minute
	nearlyFull = 0.7
)

// command is what to type about a sink that is not fresh.
func command(st *Status, s *Sink) string {
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
		long := s.DrainSeconds != nil && *s.DrainSeconds >= longDrain.Seconds()
		owing := s.QueueLag != nil && *s.QueueLag >= longDebt.Seconds()
		if full := float64(st.Stream.Bytes) > nearlyFull*float64(st.Stream.LimitBytes); long && (owing || full) {
			return "walpurge purge --sink " + s.Name + " " + s.Coarse + " --supersede --dry-run"
		}
	}
	return "walpurge status --watch"
}

// CoarseFlags are the flags that purge everything: the tag, where the flush plan
// is one tag that every object carries, else the plan.
func CoarseFlags(plan []invalidation.Invalidation) string {
	if len(plan) == 1 && plan[0].Kind == invalidation.Tag && plainWord(plan[0].Value) {
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
