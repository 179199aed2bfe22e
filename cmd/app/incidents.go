package app

import (
	"slices"
	"sync"
	"time"
)

// Incident is a gap in the line, or the beginning of a flush of a sink.
type Incident struct {
	At time.Time `json:"at"`
	// Kind is gap or flush; Sink is empty for a gap, which is every sink's.
	Kind   string `json:"kind"`
	Sink   string `json:"sink,omitempty"`
	Reason string `json:"reason"`
}

// maxIncidents is how many are remembered.
const maxIncidents = 10

// incidents remembers the newest incidents since the start. The log has all of
// them.
type incidents struct {
	mu     sync.Mutex
	recent []Incident
}

func (i *incidents) add(kind, sink, reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.recent = append(i.recent, Incident{At: time.Now().UTC(), Kind: kind, Sink: sink, Reason: reason})
	if over := len(i.recent) - maxIncidents; over > 0 {
		i.recent = slices.Delete(i.recent, 0, over)
	}
}

// newestFirst returns a copy, empty and not nil if there was none.
func (i *incidents) newestFirst() []Incident {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := append([]Incident{}, i.recent...)
	slices.Reverse(out)
	return out
}
