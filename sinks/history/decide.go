package history

import (
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Reason says why something is purged again. It is a metric label and the reason of a flush.
type Reason string

// The reasons.
const (
	// Failover: another node, or the same one under another history, has become the primary.
	Failover Reason = Reason(invalidation.FlushFailover)
	// Restarted: the process was started again, from a snapshot or a file of its writes.
	Restarted Reason = Reason(invalidation.FlushRestarted)
	// Reloaded: the process has loaded a snapshot while it ran.
	Reloaded Reason = Reason(invalidation.FlushReloaded)
	// Replaced: another server answers at the address.
	Replaced Reason = Reason(invalidation.FlushReplaced)
	// NewTarget: the configuration names another cache for the sink.
	NewTarget Reason = Reason(invalidation.FlushNewTarget)
)

// Reasons lists them for metrics.
func Reasons() []Reason { return []Reason{Failover, Restarted, Reloaded, Replaced, NewTarget} }

// Answer is what a decision asks for.
type Answer string

// The answers.
const (
	// Same: the cache holds what it held.
	Same Answer = "same"
	// Purge: what was purged after a floor is purged again.
	Purge Answer = "purge"
	// Flush: everything is purged.
	Flush Answer = "flush"
)

// Decision is what follows from what was seen.
type Decision struct {
	Answer Answer
	Reason Reason
	// After is the floor after which everything is purged again, 0 for all that the stream holds.
	// Unless the stream holds all that was stored after Reach, and no manual purge was carried out
	// after number Manual, the answer is Flush.
	After, Reach, Manual uint64
	// Since is the time of Reach.
	Since time.Time
}

// How much earlier than a time by another clock, or than one in whole seconds, something may have
// happened.
const slack = 2 * time.Second

// replicaAttaches is the time within which another history without a predecessor is taken for that
// of the same primary, whose first replica has connected. Within it, no primary can have become a
// replica, been promoted again, and dropped its backlog (repl-backlog-ttl is an hour by default).
const replicaAttaches = time.Minute

// Decide compares what is seen now with the record. Nodes are none for a sink that cannot tell.
func Decide(r *Record, t Target, nodes []Node, now time.Time) Decision {
	if r.Target.Kind != t.Kind || r.Target.Scope != t.Scope {
		return r.flush(NewTarget)
	}
	if len(nodes) == 0 || len(r.Nodes) == 0 {
		if r.Target.moved(t) {
			return r.flush(NewTarget)
		}
		return Decision{Answer: Same}
	}
	out := Decision{Answer: Same}
	strangers := 0
	for _, n := range nodes {
		d, known := r.decide(n, t, now)
		if !known {
			strangers++
		}
		out = stronger(out, d)
	}
	if strangers == len(nodes) {
		if !overlap(r.Target.Parts, t.Parts) {
			return r.flush(NewTarget)
		}
		if out.Answer == Same {
			return r.flush(Replaced)
		}
	}
	return out
}

// stronger is the decision that covers both.
func stronger(a, b Decision) Decision {
	rank := func(d Decision) int { return slices.Index([]Answer{Same, Purge, Flush}, d.Answer) }
	if rank(a) != rank(b) {
		if rank(a) < rank(b) {
			return b
		}
		return a
	}
	if a.Answer != Purge {
		return a
	}
	if b.Reach < a.Reach {
		a.Reach, a.Manual, a.Since, a.Reason = b.Reach, b.Manual, b.Since, b.Reason
	}
	a.After = min(a.After, b.After)
	return a
}

// moved reports that a target is another one, or that one of its parts is: a name that has another
// id now. A part that was added is not: nothing was purged there before. Nor is one that is called
// otherwise now.
func (t Target) moved(to Target) bool {
	for name, id := range to.Parts {
		if was, named := t.Parts[name]; named && was != id {
			return true
		}
	}
	return !overlap(t.Parts, to.Parts)
}

func has(parts map[string]string, id string) bool {
	for _, each := range parts {
		if each == id {
			return true
		}
	}
	return false
}

func overlap(a, b map[string]string) bool {
	for _, id := range b {
		if has(a, id) {
			return true
		}
	}
	return len(a) == 0 || len(b) == 0
}

func (r *Record) flush(why Reason) Decision {
	return Decision{Answer: Flush, Reason: why, Since: r.Seen}
}

// decide decides for one node. known tells whether the record is about this node, or about one
// whose history it continues.
func (r *Record) decide(n Node, t Target, now time.Time) (d Decision, known bool) {
	if i := slices.IndexFunc(r.Nodes, func(k Known) bool { return k.Run == n.Run }); i >= 0 {
		return r.running(r.Nodes[i], n, now), true
	}
	if d, found := r.continued(n); found {
		return d, true
	}
	i := slices.IndexFunc(r.Nodes, func(k Known) bool { return k.ID == n.ID })
	switch {
	case i < 0 && n.Prior == "" && n.Loaded <= 0:
		// It has joined the cluster, and was given what it holds by the others.
		return Decision{Answer: Same}, false
	case i < 0:
		return r.all(Failover), false
	case n.Prior != "":
		// It continues a history that is not the record's.
		return r.all(Restarted), n.ID != ""
	}
	started := now.Add(-n.Uptime - slack)
	if empty := n.Loaded == 0 && !n.AOF; empty {
		// What it holds was written after it was started.
		p := r.placeAt(started)
		if p == nil && len(r.Places) > 0 && r.Places[0].At.Before(started.Add(2*slack)) {
			p = &r.Places[0] // the record began as the process did
		}
		return r.since(Restarted, p), n.ID != "" || overlap(r.Target.Parts, t.Parts)
	}
	if n.ID == "" && started.Add(2*slack).Before(r.Seen) {
		return r.flush(Replaced), overlap(r.Target.Parts, t.Parts)
	}
	// It may have loaded any snapshot; the newest one is the least that is to be reached.
	k := r.Nodes[i]
	at := k.SavedAt.Add(-slack)
	if k.AOF {
		at = r.Seen.Add(-slack)
	}
	d = r.since(Restarted, r.placeAt(at))
	d.After = 0
	return d, n.ID != "" || overlap(r.Target.Parts, t.Parts)
}

// running decides for the process that was seen before.
func (r *Record) running(k Known, n Node, now time.Time) Decision {
	switch {
	case k.Repl == n.Repl:
		// DEBUG RELOAD NOSAVE. Without NOSAVE it saves first, and loads what it had.
		if k.Loaded >= 0 && n.Loaded != k.Loaded && n.Saved == k.Saved {
			d := r.since(Reloaded, r.placeAt(k.SavedAt.Add(-slack)))
			d.After = 0
			return d
		}
		return Decision{Answer: Same}
	case n.Prior == "" && now.Sub(r.Seen) < replicaAttaches:
		return Decision{Answer: Same}
	}
	if d, found := r.continued(n); found {
		return d
	}
	return r.all(Failover)
}

// continued finds what a node lacks whose history continues one of the record's.
func (r *Record) continued(n Node) (d Decision, found bool) {
	if n.Prior == "" {
		return d, false
	}
	for _, p := range slices.Backward(r.Places) {
		offset, in := p.Offsets[n.Prior]
		found = found || in
		if in && offset <= n.PriorOffset {
			return r.since(Failover, &p), true
		}
	}
	return r.all(Failover), found
}

// since purges again what was purged after a place, or everything if the place is not known.
func (r *Record) since(why Reason, p *Place) Decision {
	if p == nil {
		return r.all(why)
	}
	return Decision{Answer: Purge, Reason: why, After: p.Floor, Reach: p.Floor, Manual: p.Manual, Since: p.At}
}

// all purges again whatever was purged.
func (r *Record) all(why Reason) Decision {
	d := Decision{Answer: Purge, Reason: why, Since: r.Seen}
	if len(r.Places) > 0 {
		d.Since = r.Places[0].At
	}
	return d
}

// placeAt is the newest place that is not younger than a time, nil if all are younger.
func (r *Record) placeAt(at time.Time) *Place {
	for _, p := range slices.Backward(r.Places) {
		if !p.At.After(at) {
			return &p
		}
	}
	return nil
}
