package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// prepare brings publication and slot into being and reads where to start. A
// reader that streamed before goes on without the tables that the application
// has dropped or made unpublishable meanwhile: the others' purges matter more.
func (r *Reader) prepare(ctx context.Context, streamed bool) (cdc.Session, uint64, error) {
	conn, err := r.cfg.Connect(ctx)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// A start does not wait for standbys, which may be gone.
	if _, err := conn.Exec(ctx, "SET synchronous_commit = local"); err != nil {
		return cdc.Session{}, 0, err
	}
	if err := r.syncNames.read(ctx, conn); err != nil {
		return cdc.Session{}, 0, err
	}
	slot, err := r.freed(ctx, conn)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	if slot != nil && slot.Active {
		// Only the slot's owner may touch the publication.
		return cdc.Session{}, 0, r.cfg.busy(ctx, conn, slot.ActivePID)
	}
	if pid, err := r.cfg.owner(ctx, conn); err != nil {
		return cdc.Session{}, 0, err
	} else if pid != 0 && uint32(pid) != r.backend {
		return cdc.Session{}, 0, r.cfg.busy(ctx, conn, pid)
	}
	if slot != nil && slot.Status == slotLost {
		if err := r.renew(ctx, conn); err != nil {
			return cdc.Session{}, 0, err
		}
	}
	done, err := r.ensure(ctx, conn, streamed)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	if slot, err = r.cfg.slot(ctx, conn); err != nil {
		return cdc.Session{}, 0, err
	}
	if slot == nil {
		return cdc.Session{}, 0, fmt.Errorf("slot %q vanished while starting", r.cfg.Slot)
	}
	if done.slot {
		r.opts.Logger.Info("created the slot", "slot", r.cfg.Slot, "publication", r.cfg.Publication, "lsn", slot.Confirmed.String())
	}
	_, unread, err := r.cfg.unread(ctx, conn, slot)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	var inactive []string
	if done.slot || unread {
		if inactive, err = r.sharing(ctx, conn); err != nil {
			return cdc.Session{}, 0, err
		}
	}
	if err := r.replaced(done.slot); err != nil {
		return cdc.Session{}, 0, err
	}
	if err := r.leap(ctx, conn, slot); err != nil {
		return cdc.Session{}, 0, err
	}
	var next uint64
	var open []uint64
	var database uint32
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_snapshot_xmax(s)::pg_catalog.text::numeric, ARRAY(SELECT x::pg_catalog.text::numeric FROM pg_catalog.pg_snapshot_xip(s) x), oid
		FROM pg_catalog.pg_current_snapshot() s, pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`).Scan(&next, &open, &database); err != nil {
		return cdc.Session{}, 0, fmt.Errorf("read the running transactions: %w", err)
	}
	return cdc.Session{Start: cdc.Position{LSN: slot.Confirmed}, Database: database, Inactive: inactive, SlotCreated: done.slot, SlotUnread: unread, Open: open, Leapt: r.leapt}, next, nil
}

// replaced asks for a slot advance where the publication replaced another one: a slot sees publications as of its
// position. PostgreSQL 18 then leaves out what was committed before the publication existed, and older versions fail.
// A slot that was created after the publication needs nothing.
func (r *Reader) replaced(created bool) error {
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	was, missed := r.watching.formerly, r.unseen
	r.unseen = false
	switch {
	case created:
		r.watching.formerly = ""
		return nil
	case was == "" && !missed:
		return nil
	case !r.opts.BridgeGaps:
		return &Fault{fmt.Errorf("slot %q lies before publication %q was created, and cannot see it there", r.cfg.Slot, r.cfg.Publication),
			"write the former name into postgres.publication, or postgres.on_gap: flush, which moves the slot and flushes every sink"}
	}
	r.conditions.At(publicationReplaced).Observe("publication", r.cfg.Publication, "formerly", was)
	r.leaps.ask(cdc.GapPublicationChanged, 0)
	r.watching.formerly = "" // a crash before that is saved repeats the advance
	return nil
}

// sharing names the inactive slots whose pipelines watched a table of this one, and logs them.
func (r *Reader) sharing(ctx context.Context, conn *pgx.Conn) (names []string, err error) {
	slots, err := r.cfg.InactiveSlots(ctx, conn)
	for _, s := range slots {
		if s.Shares {
			names = append(names, s.Name)
			r.conditions.At(leftSlot, "slot", s.Name).Observe("retained_bytes", s.Retained)
		}
	}
	return names, err
}

// slotLost is the wal_status of a slot whose log the server has removed.
const slotLost = "lost"

// renew drops a slot that the server has invalidated, so that a new one is made.
// After a crash in between there is no slot, which is the same gap.
func (r *Reader) renew(ctx context.Context, conn *pgx.Conn) error {
	if !r.cfg.Manage || !r.opts.BridgeGaps {
		return r.cfg.lostSlot()
	}
	r.conditions.At(slotLostAgain).Observe("slot", r.cfg.Slot, "times", condition.Sum(1))
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", r.cfg.Slot); err != nil {
		return fmt.Errorf("drop the invalidated slot %q: %w", r.cfg.Slot, err)
	}
	return nil
}

func (c Config) lostSlot() error {
	return &Fault{fmt.Errorf("slot %q was invalidated by the server: changes are lost", c.Slot),
		"drop it (SELECT pg_drop_replication_slot('" + c.Slot + "');) and start again: a new slot is created and every sink flushed"}
}

// ensure publishes what the rules watch now.
func (r *Reader) ensure(ctx context.Context, conn *pgx.Conn, streamed bool) (ensured, error) {
	r.widening.Lock()
	defer r.widening.Unlock()
	kin, err := r.readKin(ctx, conn)
	if err != nil {
		return ensured{}, err
	}
	watch := r.opts.Watch().with(kin)
	// Before the slot is created, so that nothing that happens after it is missed.
	if err := r.describeFirst(ctx, conn, watch); err != nil {
		return ensured{}, err
	}
	tables, _, err := r.cfg.Resolve(ctx, conn, watch)
	if err != nil {
		return ensured{}, err
	}
	if streamed {
		tables = r.publishable(ctx, conn, tables)
	}
	done, err := r.cfg.Ensure(ctx, conn, tables, watch)
	r.watching.entered(done.entered)
	if done.publication {
		r.opts.Logger.Info("created the publication", "publication", r.cfg.Publication, "tables", len(done.entered))
	}
	return done, err
}

// publishable leaves out the tables that cannot be published, and says so.
func (r *Reader) publishable(ctx context.Context, conn *pgx.Conn, tables []cdc.Table) []cdc.Table {
	infos, err := Inspect(ctx, conn, r.cfg.Publication, tables)
	if err != nil {
		r.conditions.At(tablesGone).Observe("err", err)
	}
	var without []error
	tables = slices.DeleteFunc(slices.Clone(tables), func(t cdc.Table) bool {
		info := infos[t]
		if info != nil && !info.Published && (!info.Usable || info.Root != "") {
			without = append(without, info.IdentityFault())
			return true
		}
		return info == nil
	})
	if len(without) > 0 {
		r.conditions.At(unpublishable).Observe("count", len(without), "err", without[0])
	}
	return tables
}

// busyError says that another process streams from the slot.
type busyError struct {
	slot string
	pid  int
	// client is the address of the other process, empty if that is not known.
	client string
}

func (e *busyError) Error() string {
	text := fmt.Sprintf("slot %q is active for PostgreSQL process %d", e.slot, e.pid)
	if e.pid == 0 {
		text = fmt.Sprintf("slot %q is active for another PostgreSQL process", e.slot)
	}
	if e.client != "" {
		text += ", which serves " + e.client
	}
	return text
}

// Busy reports whether the error says that another process streams from the slot.
func Busy(err error) bool {
	var busy *busyError
	return errors.As(err, &busy)
}

// busy says that the slot is active for a PostgreSQL process. It names the client where the role may see it: those of
// its own, or all with pg_read_all_stats.
func (c Config) busy(ctx context.Context, conn *pgx.Conn, pid int) *busyError {
	e := &busyError{slot: c.Slot, pid: pid}
	// Without an answer, the client is not named.
	_ = conn.QueryRow(ctx, `SELECT CASE WHEN client_addr IS NOT NULL THEN 'a client at ' || pg_catalog.host(client_addr)
		WHEN client_port = -1 THEN 'a client on the machine of the database' ELSE '' END FROM pg_catalog.pg_stat_activity WHERE pid = $1`, pid).Scan(&e.client)
	return e
}

func (r *Reader) explainStart(err error) error {
	switch sqlState(err) {
	case codeObjectInUse:
		return &busyError{slot: r.cfg.Slot}
	case codeUndefinedObject, codeNotInState:
		return &Fault{fmt.Errorf("slot %q cannot be read: %w", r.cfg.Slot, err), "see `walpurge check`; a lost slot must be dropped before a new one is created"}
	}
	return fmt.Errorf("start replication: %w", err)
}
