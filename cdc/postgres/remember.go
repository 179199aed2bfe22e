package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/walpurge/walpurge/cdc"
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
	Publication string  `json:"publication"`
	Options     string  `json:"options"`
	Tables      []stays `json:"tables"`
	// Unread are the tables of which rules could not read all that they purge by.
	Unread []cdc.Table `json:"unread,omitempty"`
}

type stays struct {
	cdc.Table
	published
}

// recall fills what this process knows with what an earlier one saw, once. What cannot be
// read is as if there were none.
func (r *Reader) recall(ctx context.Context) error {
	r.watching.mu.Lock()
	fresh := r.watching.known == nil && r.opts.Memory != nil
	r.watching.mu.Unlock()
	if !fresh {
		return nil
	}
	raw, err := r.opts.Memory.Load(ctx)
	if err != nil {
		return fmt.Errorf("recall the publication: %w", err)
	}
	var s seen
	if raw == nil || json.Unmarshal(raw, &s) != nil || s.Publication != r.cfg.Publication {
		return nil
	}
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	r.watching.known, r.watching.options, r.watching.saved = make(map[cdc.Table]published, len(s.Tables)), s.Options, string(raw)
	for _, t := range s.Tables {
		r.watching.known[t.Table] = t.published
	}
	r.watching.unread = s.Unread
	return nil
}

// remember saves what this process knows, if that changed. What is announced must be in
// the log by then.
func (r *Reader) remember(ctx context.Context) error {
	if r.opts.Memory == nil {
		return nil
	}
	r.watching.mu.Lock()
	s := seen{Publication: r.cfg.Publication, Options: r.watching.options, Unread: r.watching.unread}
	for _, t := range sortedTables(r.watching.known) {
		s.Tables = append(s.Tables, stays{t, r.watching.known[t]})
	}
	saved := r.watching.saved
	r.watching.mu.Unlock()
	raw, err := json.Marshal(s)
	if err != nil || string(raw) == saved {
		return err
	}
	if err := r.opts.Memory.Save(ctx, raw); err != nil {
		return fmt.Errorf("remember the publication: %w", err)
	}
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	r.watching.saved = string(raw)
	return nil
}
