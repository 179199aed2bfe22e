package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// source is the durable consumer of one lane, as one daemon reads it.
type source struct {
	d     *daemon
	sink  string
	read  uint64
	floor uint64 // acknowledged, as the daemon believes
}

func (s *source) wants(subject string) bool {
	return subject == "walpurge.sim.progress" || subject == "walpurge.sim.purge."+s.sink
}

func (s *source) Next(ctx context.Context) (invalidation.Message, error) {
	w := s.d.w
	for {
		w.mu.Lock()
		f := w.disk.files["walpurge_sim"]
		if w.one(40) {
			s.read = w.disk.floors[s.sink] // the consumer starts over
		}
		for s.read = max(s.read, f.first-1); s.read < f.last(); {
			m := f.msgs[s.read]
			s.read++
			if s.wants(m.subject) {
				w.mu.Unlock()
				return decode(m)
			}
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return invalidation.Message{}, ctx.Err()
		}
	}
}

func decode(m message) (invalidation.Message, error) {
	out := invalidation.Message{Seq: m.seq}
	if m.subject != "walpurge.sim.progress" {
		b, err := invalidation.Decode(m.data)
		out.Batch = b
		return out, err
	}
	c, err := claimOf(m)
	out.Claim = &c
	return out, err
}

func claimOf(m message) (cdc.Claim, error) {
	var p struct {
		Epoch, Counter uint64
		Claim          cdc.LSN
		Time           time.Time `json:"time"`
	}
	err := json.Unmarshal(m.data, &p)
	return cdc.Claim{Epoch: p.Epoch, Counter: p.Counter, Position: at(p.Claim), CommitTime: p.Time}, err
}

func (s *source) Announce(uint64) error { return nil }

// Ack moves the floor; one in a while does not arrive, and nobody is told.
func (s *source) Ack(seq uint64) error {
	w := s.d.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.d.step(); err != nil {
		return err
	}
	w.note("%s acknowledges up to %d", s.sink, seq)
	s.floor = max(s.floor, seq)
	if !w.one(10) {
		w.disk.floors[s.sink] = max(w.disk.floors[s.sink], seq)
	}
	w.wake()
	return nil
}

// manualSource is where one daemon reads the manual purges of a sink.
type manualSource struct {
	d    *daemon
	sink string
	read int
}

// Next returns the next manual purge, from the first that is not acknowledged.
func (s *manualSource) Next(ctx context.Context) (invalidation.Message, error) {
	w := s.d.w
	for {
		w.mu.Lock()
		var next *invalidation.Batch
		s.read = max(s.read, w.manualDone[s.sink])
		if s.read < len(w.manual[s.sink]) {
			next = w.manual[s.sink][s.read]
			s.read++
		}
		changed := w.changed
		w.mu.Unlock()
		if next != nil {
			return invalidation.Message{Seq: uint64(s.read), Batch: next}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return invalidation.Message{}, ctx.Err()
		}
	}
}

func (s *manualSource) Announce(uint64) error { return nil }

func (s *manualSource) Ack(seq uint64) error {
	w := s.d.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.d.step(); err != nil {
		return err
	}
	w.manualDone[s.sink] = max(w.manualDone[s.sink], int(seq))
	return nil
}

// backlog are the messages that the lane has not acknowledged. mu is held.
func (s *source) backlog() (n int, bytes int64) {
	f := s.d.w.disk.files["walpurge_sim"]
	for seq := max(s.floor, f.first-1); seq < f.last(); seq++ {
		if m := f.msgs[seq]; s.wants(m.subject) {
			n, bytes = n+1, bytes+m.size()
		}
	}
	return n, bytes
}

func (s *source) Backlog(context.Context) (int64, error) {
	s.d.w.mu.Lock()
	defer s.d.w.mu.Unlock()
	_, bytes := s.backlog()
	return bytes, s.d.step()
}

// Past does what that of stream.Consumer does.
func (s *source) Past(ctx context.Context, seq uint64) error {
	w := s.d.w
	for {
		w.mu.Lock()
		left, _ := s.backlog()
		past, changed := s.floor >= seq || left == 0, w.changed
		w.mu.Unlock()
		if past {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// owed is the newest flush that stands for a backlog and is not acknowledged; it judges
// the note of it as stream.Overflowed does. mu is held.
func (s *source) pendingFlush() uint64 {
	w := s.d.w
	note, found := w.disk.files["walpurge_sim_hand"].newest("walpurge.sim.note.overflow." + s.sink)
	if !found {
		return 0
	}
	seq, err := strconv.ParseUint(string(note.data), 10, 64)
	f := w.disk.files["walpurge_sim"]
	if err != nil || seq <= s.floor || seq < f.first || seq > f.last() {
		return 0
	}
	if m, err := decode(f.msgs[seq-1]); err != nil || m.Batch == nil || m.Batch.Sink != s.sink || m.Batch.Reason != "overflow" {
		return 0
	}
	return seq
}

// visibleGate is open once readers see every transaction of a batch.
func (w *world) visibleGate(ctx context.Context, m invalidation.Message) error {
	for {
		w.mu.Lock()
		open, changed := true, w.changed
		for _, xid := range m.Batch.Stamp.XIDs {
			open = open && w.db.byXID[xid].visible > 0
		}
		w.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// simSink is a cache. It knows no keys: what it has been told, the oracle judges.
type simSink struct {
	d    *daemon
	name string
}

var errDown = errors.New("connection refused")

// refused values are those that no sink takes.
func refused(value string) bool {
	return strings.HasSuffix(value, ":13") || strings.HasSuffix(value, "-13")
}

func (s simSink) Purge(ctx context.Context, invs []invalidation.Invalidation) error {
	w := s.d.w
	w.mu.Lock()
	w.tally.purges++
	began, takes, fate := w.tick(), w.takes(400*time.Millisecond), w.rnd.IntN(14)
	switch {
	case w.calm:
		fate = 13
	case time.Now().Before(w.down[s.name]) && slices.ContainsFunc(invs, func(inv invalidation.Invalidation) bool { return w.refuses[s.name].Has(inv.Kind) }):
		fate = 2 * w.rnd.IntN(2)
	}
	err := s.d.step()
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if !sleep(ctx, takes) {
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.d.step(); err != nil {
		return err // whatever it has done counts for nothing
	}
	switch fate {
	case 0:
		return errDown
	case 1:
		return sinks.ThrottledError(errDown, time.Duration(w.rnd.IntN(5))*time.Second)
	case 2:
		return sinks.LaneError(errDown)
	}
	failed := map[int]error{}
	for i, inv := range invs {
		switch {
		case refused(inv.Value) && fate == 4 && len(invs) > 1:
			return sinks.ItemError(errDown) // and cannot say which
		case refused(inv.Value):
			failed[i] = sinks.ItemError(errDown)
		case fate == 3 && w.rnd.IntN(2) == 0:
			failed[i] = errDown
		}
	}
	var taken []string
	for i, inv := range invs {
		if failed[i] == nil {
			taken = append(taken, inv.Value)
			w.carried(s.name, inv.Value, began)
		}
	}
	w.note("%s has purged %s", s.name, strings.Join(taken, " "))
	if len(failed) > 0 {
		return &sinks.BatchError{Failed: failed}
	}
	return nil
}
