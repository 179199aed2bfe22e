package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// A daemon's first start on a slot that `walpurge setup` created, and that was never read, is
// not a gap: all that was committed after the slot was created is about to be sent. The
// catalog does not say where a slot began, so setup writes it into the comment of the
// publication. A slot whose confirmed position is still that one was never read.

// birthNote is the step that writes the place down; it follows the slot's creation.
func (c Config) birthNote() Step {
	return Step{SQL: fmt.Sprintf("DO $$ BEGIN EXECUTE format('COMMENT ON PUBLICATION %%I IS %%L', '%s', '%s' || "+
		"(SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '%s')); END $$", c.Publication, c.birthPrefix(), c.Slot)}
}

func (c Config) birthPrefix() string { return "walpurge: slot " + c.Slot + " begins at " }

// unread reports that the slot stands where it was made.
func (c Config) unread(ctx context.Context, conn *pgx.Conn, slot *slotInfo) (bool, error) {
	var comment string
	err := conn.QueryRow(ctx, "SELECT coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication WHERE pubname = $1", c.Publication).Scan(&comment)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the comment of publication %q: %w", c.Publication, err)
	}
	text, ours := strings.CutPrefix(comment, c.birthPrefix())
	at, perr := cdc.ParseLSN(text)
	return ours && perr == nil && at == slot.Confirmed, nil
}
