package edge

import (
	"slices"
	"sync"
	"time"
)

// Request is one request to the API, accepted or not.
type Request struct {
	// Seq counts from 1 in the order of arrival.
	Seq uint64
	// Ray is the id that the reply carried as CF-Ray.
	Ray string
	// At is when it arrived; AppliedAt when the purge took effect, zero before.
	At, AppliedAt time.Time
	// Zone is the zone's id in the path, if it is one of the edge's.
	Zone string
	// Kind and Values are what was asked for, as sent; empty if unreadable.
	Kind   Kind
	Values []string
	// Status and Code are those of the reply; Code is the first error's, 0 on
	// success. Status is 0 until the reply, and stays 0 if a fault prevents one.
	Status, Code int
	// Fault is the injected fault it met.
	Fault FaultKind
}

// requestLog keeps the newest requests.
type requestLog struct {
	mu   sync.Mutex
	size int
	last uint64
	kept []Request
}

func (l *requestLog) add(r Request) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	r.Seq = l.last
	if len(l.kept) >= l.size {
		l.kept = slices.Delete(l.kept, 0, len(l.kept)-l.size+1)
	}
	l.kept = append(l.kept, r)
	return r.Seq
}

func (l *requestLog) update(seq uint64, change func(*Request)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 || seq < l.kept[0].Seq {
		return
	}
	change(&l.kept[seq-l.kept[0].Seq])
}

func (l *requestLog) applied(seq uint64, at time.Time) {
	l.update(seq, func(r *Request) { r.AppliedAt = at })
}

func (l *requestLog) since(after uint64) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Request
	for _, r := range l.kept {
		if r.Seq > after {
			r.Values = slices.Clone(r.Values)
			out = append(out, r)
		}
	}
	return out
}
