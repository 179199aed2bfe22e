package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/integration/scenario/results"
)

// commits is how many commits of one writer are timed, in each of four rounds.
const commits = 1000

// cost measures WAL by replica identity, and the latency of commits: without a slot, with one that
// walpurge reads, and so twice.
func (r *runner) cost(ctx context.Context, out *results.Cost) (err error) {
	run, err := r.start(ctx, Variant{Name: "cost", Cache: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.close()) }()
	conn, err := run.env.Postgres.Connect(ctx, r.sc.Name)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var without, with []time.Duration
	for range 2 {
		if without, err = r.commits(ctx, conn, without); err != nil {
			return err
		}
		if err := run.startWalpurge(ctx); err != nil {
			return err
		}
		if with, err = r.commits(ctx, conn, with); err != nil {
			return err
		}
		if err := run.walpurge.Close(); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"); err != nil {
			return err
		}
	}
	out.CommitP50, out.CommitP99 = results.Quantile(without, 0.5), results.Quantile(without, 0.99)
	out.CommitSlotP50, out.CommitSlotP99 = results.Quantile(with, 0.5), results.Quantile(with, 0.99)
	out.WALPerRow, err = r.wal(ctx, conn)
	return err
}

func (r *runner) commits(ctx context.Context, conn *pgx.Conn, to []time.Duration) ([]time.Duration, error) {
	for i := range commits {
		begun := time.Now()
		if _, err := conn.Exec(ctx, r.sc.Cost.One, i%r.sc.Cost.Keys+1); err != nil {
			return to, err
		}
		to = append(to, time.Since(begun))
	}
	return to, nil
}

// wal measures the log of one updated row, with the identity of schema.sql and with FULL. Each is
// measured with the table's pages in the same state: vacuumed, and full_page_writes off.
func (r *runner) wal(ctx context.Context, conn *pgx.Conn) (map[string]float64, error) {
	out := map[string]float64{}
	for _, identity := range []string{"of the example", "full"} {
		if identity == "full" {
			if _, err := conn.Exec(ctx, "ALTER TABLE "+r.sc.Cost.Table+" REPLICA IDENTITY FULL"); err != nil {
				return nil, err
			}
		}
		if _, err := conn.Exec(ctx, "VACUUM "+r.sc.Cost.Table); err != nil {
			return nil, err
		}
		var before, after string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&before); err != nil {
			return nil, err
		}
		tag, err := conn.Exec(ctx, r.sc.Cost.Many)
		if err != nil {
			return nil, err
		}
		if tag.RowsAffected() == 0 {
			return nil, fmt.Errorf("%s updates no row", strings.TrimSpace(r.sc.Cost.Many))
		}
		var bytes float64
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&after); err != nil {
			return nil, err
		}
		if err := conn.QueryRow(ctx, "SELECT pg_wal_lsn_diff($1::text::pg_lsn, $2::text::pg_lsn)::float8", after, before).Scan(&bytes); err != nil {
			return nil, err
		}
		out[identity] = bytes / float64(tag.RowsAffected())
	}
	return out, nil
}
