package simulate

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// js is JetStream as one daemon reaches it. What the core does not call is not there.
type js struct {
	jetstream.JetStream
	d *daemon
}

func (js) Conn() *nats.Conn { return nil }

func (j js) Stream(_ context.Context, name string) (jetstream.Stream, error) {
	w := j.d.w
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.disk.files[name]
	if f == nil {
		return nil, jetstream.ErrStreamNotFound
	}
	return handle{d: j.d, f: f}, nil
}

func (j js) CreateOrUpdateStream(_ context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	w := j.d.w
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.disk.files[cfg.Name]
	if f == nil {
		f = &file{first: 1, head: 1}
		w.disk.files[cfg.Name] = f
	}
	f.cfg = cfg
	return handle{d: j.d, f: f}, nil
}

func (j js) UpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return j.CreateOrUpdateStream(ctx, cfg)
}

func (j js) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	w := j.d.w
	if len(opts) > 0 {
		return nil, errors.New("options of a publication are not simulated: use headers")
	}
	w.mu.Lock()
	takes := w.takes(4 * time.Millisecond)
	seq, err := w.publish(j.d, m)
	w.mu.Unlock()
	if !sleep(ctx, takes) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return &jetstream.PubAck{Stream: "walpurge_sim", Sequence: seq}, nil
}

// future is an acknowledgement that comes later, or never, if the daemon dies.
type future struct {
	ok   chan *jetstream.PubAck
	err  chan error
	from *nats.Msg
}

func (f future) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f future) Err() <-chan error            { return f.err }
func (f future) Msg() *nats.Msg               { return f.from }

func (j js) PublishMsgAsync(m *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	w := j.d.w
	f := future{ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1), from: m}
	w.mu.Lock()
	takes := w.takes(4 * time.Millisecond)
	seq, err := w.publish(j.d, m)
	w.mu.Unlock()
	time.AfterFunc(takes, func() {
		if err != nil {
			f.err <- err
			return
		}
		f.ok <- &jetstream.PubAck{Stream: "walpurge_sim", Sequence: seq}
	})
	return f, nil
}

// handle is one stream.
type handle struct {
	jetstream.Stream
	d *daemon
	f *file
}

func (h handle) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	h.d.w.mu.Lock()
	defer h.d.w.mu.Unlock()
	if err := h.d.step(); err != nil {
		return nil, err
	}
	return h.info(), nil
}

func (h handle) CachedInfo() *jetstream.StreamInfo {
	h.d.w.mu.Lock()
	defer h.d.w.mu.Unlock()
	return h.info()
}

func (h handle) info() *jetstream.StreamInfo {
	f := h.f
	s := jetstream.StreamState{FirstSeq: f.first, LastSeq: f.last(), Msgs: f.last() + 1 - f.first, Bytes: uint64(f.bytes())}
	if s.Msgs > 0 {
		s.FirstTime = f.msgs[f.first-1].at
	}
	return &jetstream.StreamInfo{Config: f.cfg, State: s}
}

// Purge deletes from the head; of notes nothing is deleted, the newest counts anyway.
func (h handle) Purge(_ context.Context, opts ...jetstream.StreamPurgeOpt) error {
	var req jetstream.StreamPurgeRequest
	for _, o := range opts {
		if err := o(&req); err != nil {
			return err
		}
	}
	h.d.w.mu.Lock()
	defer h.d.w.mu.Unlock()
	if err := h.d.step(); err != nil {
		return err
	}
	if req.Subject == "" {
		h.f.first = min(max(h.f.first, req.Sequence), h.f.last()+1)
	}
	return nil
}

func (h handle) GetMsg(_ context.Context, seq uint64, _ ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	h.d.w.mu.Lock()
	defer h.d.w.mu.Unlock()
	if err := h.d.step(); err != nil {
		return nil, err
	}
	if seq < h.f.first || seq > h.f.last() {
		return nil, jetstream.ErrMsgNotFound
	}
	return raw(h.f.msgs[seq-1]), nil
}

func (h handle) GetLastMsgForSubject(_ context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	h.d.w.mu.Lock()
	defer h.d.w.mu.Unlock()
	if err := h.d.step(); err != nil {
		return nil, err
	}
	m, found := h.f.newest(subject)
	if !found {
		return nil, jetstream.ErrMsgNotFound
	}
	return raw(m), nil
}

func raw(m message) *jetstream.RawStreamMsg {
	return &jetstream.RawStreamMsg{Subject: m.subject, Sequence: m.seq, Data: m.data, Time: m.at}
}

// sync is the daemon's fsync: what was stored when it began is on disk when it returns.
func (d *daemon) sync() error {
	w := d.w
	w.mu.Lock()
	type end struct{ last, first uint64 }
	seen := map[*file]end{}
	for _, f := range w.disk.files {
		seen[f] = end{f.last(), f.first}
	}
	takes := w.takes(60 * time.Millisecond)
	w.mu.Unlock()
	if !sleep(d.core, takes) {
		return d.core.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	parked := w.disk.files["walpurge_sim_parked"]
	before := parked.synced
	for f, e := range seen {
		f.synced, f.head = max(f.synced, e.last), max(f.head, e.first)
	}
	for _, m := range parked.msgs[before:parked.synced] {
		w.parkedAt(m)
	}
	return nil
}

// sleep waits and reports whether the context lived through it.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
