package history

import (
	"maps"
	"slices"
	"time"
)

// Node is a primary as it describes itself.
type Node struct {
	// ID is the node's name in a cluster, empty outside of one.
	ID string
	// Run is the id of the process.
	Run string
	// Repl is the replication history that the node writes, Offset how far it has come. Prior is
	// the history that it continues, empty if it continues no other, and PriorOffset how much it has of that.
	Repl        string
	Offset      int64
	Prior       string
	PriorOffset int64
	// Uptime is how long the process has run, in whole seconds.
	Uptime time.Duration
	// Saved is the time of the last snapshot by the clock of the server, in seconds, and SavedAge
	// how long ago that was.
	Saved    int64
	SavedAge time.Duration
	// AOF reports that the node logs its writes to a file.
	AOF bool
	// Loaded is how many keys the newest load from disk, or from a primary, brought; -1 if the node
	// does not say.
	Loaded int64
}

// Target says which cache a sink purges.
type Target struct {
	Kind string `json:"kind"`
	// Scope is the part of the cache that is purged: a database and a key prefix.
	Scope string `json:"scope,omitempty"`
	// Parts are the ids of what is purged, by the name that the configuration has for each: zones by
	// host, nodes by address. A part without a name of its own has the empty one.
	Parts map[string]string `json:"parts"`
}

// Record is what is known of a sink's cache from the last time that it was seen.
type Record struct {
	Target Target `json:"target"`
	// Names are those that the sink has had.
	Names []string `json:"names,omitempty"`
	// Stream is the stream that floors are of.
	Stream string    `json:"stream"`
	Seen   time.Time `json:"seen"`
	// Nodes are those that were seen, none for a sink that cannot tell.
	Nodes []Known `json:"nodes,omitempty"`
	// Places are what is known to have been purged at some times, oldest first.
	Places []Place `json:"places,omitempty"`
	// Until is the last message of what is to be purged again, for Reason, since Since. While the
	// lane has not passed it, Places are not added to.
	Until  uint64    `json:"until,omitempty"`
	Reason Reason    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// Known is what a record keeps of a Node. SavedAt is by the clock of this process.
type Known struct {
	ID      string    `json:"id,omitempty"`
	Run     string    `json:"run"`
	Repl    string    `json:"repl"`
	Saved   int64     `json:"saved"`
	SavedAt time.Time `json:"saved_at"`
	AOF     bool      `json:"aof,omitempty"`
	Loaded  int64     `json:"loaded"`
}

// Place says what was purged at a time: everything up to Floor in the stream, and manual purges up
// to the number Manual. Offsets has, by replication history, how far the nodes had come by then.
type Place struct {
	Floor   uint64           `json:"floor"`
	Manual  uint64           `json:"manual,omitempty"`
	At      time.Time        `json:"at"`
	Offsets map[string]int64 `json:"offsets,omitempty"`
}

// maxPlaces bounds the list. Where it is full, every second one of the older half is dropped, so
// that places are the closer together the newer they are.
const maxPlaces = 24

// Update records what was seen. floor and manual are what the lane had purged before the nodes were
// asked. It returns whether a place was added or a node changed.
func (r *Record) Update(t Target, nodes []Node, floor, manual uint64, now time.Time) (changed bool) {
	known := make([]Known, len(nodes))
	p := Place{Floor: floor, Manual: manual, At: now, Offsets: make(map[string]int64, len(nodes))}
	for i, n := range nodes {
		known[i] = Known{ID: n.ID, Run: n.Run, Repl: n.Repl, Saved: n.Saved, SavedAt: now.Add(-n.SavedAge), AOF: n.AOF, Loaded: n.Loaded}
		p.Offsets[n.Repl] = n.Offset
	}
	same := func(a, b Known) bool { return a.ID == b.ID && a.Run == b.Run && a.Repl == b.Repl && a.Saved == b.Saved }
	changed = !slices.EqualFunc(known, r.Nodes, same) || !maps.Equal(t.Parts, r.Target.Parts)
	r.Target, r.Nodes, r.Seen = t, known, now
	if floor < r.Until {
		// The nodes hold no more than what the newest place says.
		if last := len(r.Places) - 1; last >= 0 && !sameHistories(r.Places[last].Offsets, p.Offsets) {
			r.Places[last].Offsets = p.Offsets
			changed = true
		}
		return changed
	}
	if r.Until > 0 {
		r.Until, r.Reason, r.Since = 0, "", time.Time{}
		changed = true
	}
	if len(r.Places) > 0 {
		last := r.Places[len(r.Places)-1]
		// The older of two places with one floor is easier to prove.
		if last.Floor == floor && last.Manual == manual && sameHistories(last.Offsets, p.Offsets) {
			return changed
		}
	}
	r.Places = append(r.Places, p)
	if len(r.Places) > maxPlaces {
		kept := r.Places[:0]
		for i, p := range r.Places {
			if i == 0 || i > maxPlaces/2 || i%2 == 0 {
				kept = append(kept, p)
			}
		}
		r.Places = kept
	}
	return true
}

func sameHistories(a, b map[string]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for id := range a {
		if _, in := b[id]; !in {
			return false
		}
	}
	return true
}

// Restart begins the record of another history, of which nothing is known but that what was purged
// after the decision's floor is purged again, up to the message until.
func (r *Record) Restart(d Decision, until uint64, now time.Time) {
	r.Until, r.Reason, r.Since = until, d.Reason, d.Since
	r.Places = []Place{{Floor: d.After, Manual: d.Manual, At: now}}
}
