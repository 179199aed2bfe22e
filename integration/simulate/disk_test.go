package simulate

import (
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type message struct {
	seq     uint64
	subject string
	data    []byte
	at      time.Time
}

func (m message) size() int64 { return int64(len(m.data)+len(m.subject)) + 30 }

// file is one stream, as the server shows it and as the disk would have it after a power
// cut. msgs has every message that is stored, those before first are deleted.
type file struct {
	cfg   jetstream.StreamConfig
	msgs  []message
	first uint64
	// synced is the newest message on disk, head what first was then.
	synced, head uint64
}

func (f *file) last() uint64 { return uint64(len(f.msgs)) }

func (f *file) bytes() (sum int64) {
	for _, m := range f.msgs[f.first-1:] {
		sum += m.size()
	}
	return sum
}

// newest returns the last message of a subject.
func (f *file) newest(subject string) (message, bool) {
	for i := len(f.msgs); i >= int(f.first); i-- {
		if f.msgs[i-1].subject == subject {
			return f.msgs[i-1], true
		}
	}
	return message{}, false
}

// disk holds the streams of a pipeline, and how far each lane has acknowledged.
type disk struct {
	files  map[string]*file
	floors map[string]uint64
}

func (w *world) fileOf(subject string) *file {
	switch {
	case len(subject) > 20 && subject[:20] == "walpurge.sim.parked.":
		return w.disk.files["walpurge_sim_parked"]
	case len(subject) > 18 && subject[:18] == "walpurge.sim.note.":
		return w.disk.files["walpurge_sim_hand"]
	}
	return w.disk.files["walpurge_sim"]
}

// append stores a message, or says why not. mu is held.
func (w *world) append(m *nats.Msg) (uint64, error) {
	f := w.fileOf(m.Subject)
	if want := m.Header.Get(jetstream.ExpectedLastSubjSeqHeader); want != "" {
		last, _ := f.newest(m.Subject)
		if want != strconv.FormatUint(last.seq, 10) {
			return 0, &jetstream.APIError{Code: 400, ErrorCode: 10071, Description: "wrong last sequence"}
		}
	}
	stored := message{seq: f.last() + 1, subject: m.Subject, data: m.Data, at: time.Now()}
	for f.bytes()+stored.size() > f.cfg.MaxBytes {
		if f.cfg.Discard == jetstream.DiscardNew || f.first > f.last() {
			w.tally.full++
			w.note("no room for a message on %s: %.200s", m.Subject, m.Data)
			return 0, &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"}
		}
		f.first++
	}
	f.msgs = append(f.msgs, stored)
	w.note("stored %d on %s: %.200s", stored.seq, stored.subject, stored.data)
	w.stored(stored)
	w.wake()
	return stored.seq, nil
}

var errUnheard = errors.New("nats: timeout")

// publish stores a message, refuses it, or stores it and lets nobody know. mu is held.
func (w *world) publish(d *daemon, m *nats.Msg) (uint64, error) {
	if err := d.step(); err != nil {
		return 0, err
	}
	if w.one(25) {
		w.tally.refused++
		w.note("refused a message on %s: %.200s", m.Subject, m.Data)
		return 0, errUnheard
	}
	seq, err := w.append(m)
	if err == nil && w.one(25) {
		w.tally.unheard++
		w.note("message %d is not acknowledged", seq)
		return 0, errUnheard
	}
	return seq, err
}

// cut takes the power away: of every stream, any part of what was not synced is gone, and
// the floors are anywhere between nothing and where they were. A head that was trimmed
// since is back if anything is gone, as on a file system that keeps its order.
func (w *world) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.cuts++
	w.note("the power is cut")
	for _, f := range w.disk.files {
		gone := w.rnd.Uint64N(f.last() - f.synced + 1)
		if gone == 0 {
			continue
		}
		w.tally.lost += int(gone)
		f.msgs = f.msgs[:f.last()-gone]
		f.first = f.head
	}
	main := w.disk.files["walpurge_sim"]
	for _, n := range w.proof.all {
		var left []uint64
		for _, seq := range n.at {
			if seq <= main.last() {
				left = append(left, seq)
			}
		}
		n.at = left
	}
	for _, sink := range sinkNames {
		if w.rnd.IntN(2) == 0 {
			w.disk.floors[sink] = w.rnd.Uint64N(w.disk.floors[sink] + 1)
		}
	}
}

// recover brings the floors in line with the streams, as the server does when it starts.
// mu is held.
func (w *world) recover() {
	if f := w.disk.files["walpurge_sim"]; f != nil {
		for _, sink := range sinkNames {
			w.disk.floors[sink] = max(min(w.disk.floors[sink], f.last()), f.first-1)
		}
	}
}
