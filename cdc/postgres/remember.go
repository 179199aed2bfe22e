package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/shape"
)

// Memory keeps what was last seen of the publication over restarts, so that a table that
// left it or came back while no daemon ran is noticed. What was saved is durable when
// Save returns; Load returns nil if nothing was.
type Memory interface {
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, seen []byte) error
}

// seen is the form in which it is kept.
type seen struct {
	Publication string `json:"publication"`
	// Formerly is the publication that the slot's position was reached with, if it was another one.
	Formerly string  `json:"formerly,omitempty"`
	Options  string  `json:"options"`
	Tables   []stays `json:"tables"`
	// Unread are the tables of which rules could not read all that they purge by.
	Unread []cdc.Table `json:"unread,omitempty"`
	// Described is what the tables contained, as shape.Pack writes it. Older versions have none.
	Described []byte `json:"described,omitempty"`
	// Reconnect are tables for which the session must be replaced, see reconnect.
	Reconnect []cdc.Table `json:"reconnect,omitempty"`
	// Passing are partitions that the stream brought rows of since the last comparison, with their roots.
	Passing map[uint32]uint32 `json:"passing,omitempty"`
	// Nonce marks the announcements of this memory.
	Nonce string `json:"nonce,omitempty"`
}

type stays struct {
	cdc.Table
	published
}

// recall fills what this process knows, once, with what an earlier one saw, or with the note of setup
// on a slot that was never read. A document that cannot be read counts as missing.
func (r *Reader) recall(ctx context.Context, conn *pgx.Conn) error {
	r.watching.mu.Lock()
	fresh := !r.watching.recalled && r.opts.Memory != nil
	r.watching.mu.Unlock()
	if !fresh {
		return nil
	}
	raw, err := r.opts.Memory.Load(ctx)
	if err != nil {
		return fmt.Errorf("recall the publication: %w", err)
	}
	var s seen
	usable := func() bool { return raw != nil && json.Unmarshal(raw, &s) == nil && s.Publication == r.cfg.Publication }
	formerly := ""
	if !usable() {
		if raw != nil {
			formerly = s.Publication
		}
		slot, err := r.cfg.slot(ctx, conn)
		if err != nil {
			return err
		}
		raw, s = nil, seen{}
		if slot != nil {
			if raw, _, err = r.cfg.unread(ctx, conn, slot); err != nil {
				return err
			}
		}
	}
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	r.watching.recalled = true
	if !usable() {
		r.watching.formerly = formerly
		return nil
	}
	r.watching.formerly = s.Formerly
	r.watching.options, r.watching.saved, r.watching.unread = s.Options, string(raw), s.Unread
	if s.Tables != nil {
		r.watching.known = make(map[cdc.Table]published, len(s.Tables))
	}
	for _, t := range s.Tables {
		r.watching.known[t.Table] = t.published
	}
	maps.Copy(r.watching.passing, s.Passing)
	if s.Nonce != "" {
		r.watching.nonce = s.Nonce
	}
	if len(s.Reconnect) > 0 {
		r.reconnect.published(s.Reconnect, nil, true)
	}
	// Descriptions that cannot be read are as if there were none.
	described, _ := shape.Unpack(s.Described)
	r.watching.described = make(map[uint32]*description, len(described))
	for _, t := range described {
		r.watching.described[t.OID] = &description{Table: t, foreign: t.HasForeign()}
	}
	r.watching.packed = s.Described
	return nil
}

// remember saves what this process knows, if that changed. What is announced must be in
// the log by then.
func (r *Reader) remember(ctx context.Context) error {
	if r.opts.Memory == nil {
		return nil
	}
	r.watching.saving.Lock()
	defer r.watching.saving.Unlock()
	r.watching.mu.Lock()
	s := seen{Publication: r.cfg.Publication, Formerly: r.watching.formerly, Options: r.watching.options, Unread: r.watching.unread, Nonce: r.watching.nonce, Reconnect: r.reconnect.now().tables, Passing: maps.Clone(r.watching.passing)}
	if r.watching.known != nil {
		s.Tables = make([]stays, 0, len(r.watching.known))
	}
	for _, t := range sortedTables(r.watching.known) {
		s.Tables = append(s.Tables, stays{t, r.watching.known[t]})
	}
	saved, described, packed := r.watching.saved, r.watching.described, r.watching.packed
	r.watching.mu.Unlock()
	if packed == nil {
		var err error
		if packed, err = pack(described); err != nil {
			return err
		}
	}
	s.Described = packed
	raw, err := json.Marshal(s)
	if err != nil || string(raw) == saved {
		return err
	}
	if err := r.opts.Memory.Save(ctx, raw); err != nil {
		return fmt.Errorf("remember the publication: %w", err)
	}
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	r.watching.saved, r.watching.packed = string(raw), packed
	return nil
}

func pack(described map[uint32]*description) ([]byte, error) {
	tables := make([]shape.Table, 0, len(described))
	for _, oid := range slices.Sorted(maps.Keys(described)) {
		tables = append(tables, described[oid].Table)
	}
	return shape.Pack(tables)
}
