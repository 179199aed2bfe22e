package app

import (
	"slices"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cmd/status"
)

// maxIncidents is how many are remembered.
const maxIncidents = 10

// incidents remembers the newest incidents since the start. The log has all of
// them.
type incidents struct {
	mu     sync.Mutex
	recent []status.Incident
}

func (i *incidents) add(kind, sink, reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.recent = append(i.recent, status.Incident{At: time.Now().UTC(), Kind: kind, Sink: sink, Reason: reason})
	if over := len(i.recent) - maxIncidents; over > 0 {
		i.recent = slices.Delete(i.recent, 0, over)
	}
}

// newestFirst returns a copy, empty and not nil if there was none.
func (i *incidents) newestFirst() []status.Incident {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := append([]status.Incident{}, i.recent...)
	slices.Reverse(out)
	return out
}
