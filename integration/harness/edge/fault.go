package edge

import (
	"sync"
	"time"
)

// FaultKind says how a request goes wrong.
type FaultKind string

// The faults.
const (
	// ServerError answers 502 with an HTML page and does nothing.
	ServerError FaultKind = "server_error"
	// Timeout carries the purge out and does not answer: the connection is cut
	// when the client gives up, or after Fault.Wait.
	Timeout FaultKind = "timeout"
	// Reset does nothing and resets the connection.
	Reset FaultKind = "reset"
	// Refused does nothing and answers 200 with success:false and result:null.
	Refused FaultKind = "refused"
	// Throttled does nothing and answers 429 with retry-after.
	Throttled FaultKind = "throttled"
)

// Fault is something that goes wrong at the edge's side of the API.
type Fault struct {
	Kind FaultKind
	// Wait is the retry-after of Throttled, rounded up to seconds (0: 1 s), and
	// the longest hold of Timeout (0: until the client gives up).
	Wait time.Duration
}

type faultQueue struct {
	mu     sync.Mutex
	queued []queuedFault
}

type queuedFault struct {
	times int
	fault Fault
}

func (q *faultQueue) add(times int, f Fault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if times != 0 {
		q.queued = append(q.queued, queuedFault{times, f})
	}
}

func (q *faultQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queued = nil
}

// next takes one fault, the zero Fault if none is queued.
func (q *faultQueue) next() Fault {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queued) == 0 {
		return Fault{}
	}
	first := &q.queued[0]
	fault := first.fault
	if first.times > 0 {
		first.times--
		if first.times == 0 {
			q.queued = q.queued[1:]
		}
	}
	return fault
}
