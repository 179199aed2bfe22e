package postgres

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/shape"
)

// A daemon's first start on a slot that `walpurge setup` created, and that was never read, is
// not a gap: all that was committed after the slot was created is about to be sent. The
// catalog does not say where a slot began, so setup writes it into the comment of the
// publication. A slot whose confirmed position is still that one was never read.
//
// The stream has no row events for DDL that ran between setup and that first start. The note
// therefore also has the tables of the publication and their descriptions, in the form in which a
// Memory keeps them, and the first comparison begins with these.

// birthNote is the step that writes the position, the tables and their descriptions into the comment.
// It follows the slot's creation. The descriptions are from before that, so that they miss nothing.
func (c Config) birthNote(ctx context.Context, conn *pgx.Conn, w Watch) (Step, error) {
	_, described, _, err := c.list(ctx, conn, w, nil)
	if err != nil {
		return Step{}, err
	}
	packed, err := pack(described)
	if err != nil {
		return Step{}, err
	}
	return Step{SQL: fmt.Sprintf(`DO $$ BEGIN EXECUTE format('COMMENT ON PUBLICATION %%I IS %%L', '%[1]s', (`+
		`SELECT '%[3]s' || s.confirmed_flush_lsn || E'\n' || json_build_object('publication', p.pubname, 'options', p.oid || ' ' || p.xmin, `+
		`'tables', ARRAY(SELECT json_build_object('Schema', n.nspname, 'Name', c.relname, 'Relation', c.oid::bigint, 'Entry', r.oid::bigint) `+
		`FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), `+
		`'described', '%[4]s') FROM pg_publication p, pg_replication_slots s WHERE p.pubname = '%[1]s' AND s.slot_name = '%[2]s')); END $$`,
		c.Publication, c.Slot, c.birthPrefix(), base64.StdEncoding.EncodeToString(packed))}, nil
}

func (c Config) birthPrefix() string { return "walpurge: slot " + c.Slot + " begins at " }

// unread reports that the slot has not been read since setup created it, and returns what setup wrote
// down for a Memory. A note that does not describe every table proves nothing: older versions
// wrote such notes, and a script that was printed for another database writes one.
func (c Config) unread(ctx context.Context, conn *pgx.Conn, slot *slotInfo) (noted []byte, unread bool, err error) {
	var comment string
	err = conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_publication'), '') FROM pg_catalog.pg_publication WHERE pubname = $1", c.Publication).Scan(&comment)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the comment of publication %q: %w", c.Publication, err)
	}
	text, ours := strings.CutPrefix(comment, c.birthPrefix())
	position, document, _ := strings.Cut(text, "\n")
	at, perr := cdc.ParseLSN(position)
	var s seen
	if !ours || perr != nil || at != slot.Confirmed || json.Unmarshal([]byte(document), &s) != nil {
		return nil, false, nil
	}
	described, derr := shape.Unpack(s.Described)
	has := make(map[uint32]bool, len(described))
	for i := range described {
		has[described[i].OID] = true
	}
	for _, t := range s.Tables {
		if !has[t.Relation] {
			return nil, false, nil
		}
	}
	return []byte(document), derr == nil, nil
}
