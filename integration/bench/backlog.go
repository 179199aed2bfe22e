package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Kind is a shape of backlog.
type Kind struct {
	Name string
	// PerTx is the number of rows that one transaction changes; 0 for all.
	PerTx int
	// Rate is that of an even load of transactions a second, whose latency is
	// measured in place of a backlog's drain; Writers are the connections that bear it.
	Rate, Writers int
	// Outage: a backlog, as of a daemon that was away, is drained beside the even load.
	Outage bool
	// Lists: instead of the floor, walpurge without column lists beside walpurge with them.
	Lists bool
	// Socket: walpurge reads by the server's Unix socket, the floor by TCP as ever.
	Socket bool
}

// Kinds are the shapes that are measured.
var Kinds = []Kind{
	{Name: "a", PerTx: 1000}, {Name: "b", PerTx: 1}, {Name: "c"},
	{Name: "l", Rate: 500, Writers: 1}, {Name: "m", Rate: 2000, Writers: 4},
	{Name: "n", PerTx: 1000, Lists: true}, {Name: "o", PerTx: 1, Rate: 200, Writers: 1, Outage: true},
	{Name: "u", PerTx: 1000, Socket: true},
}

const (
	// slot is the pattern from which each round's slot is copied.
	slot        = "bench_origin"
	publication = "bench"
	listed      = "bench_listed"
	products    = 100_000
	// quiet are the last rows, which the backlog of an outage leaves to the even load: a
	// hundred seconds of it.
	quiet = 20_000
)

// schema makes rows whose UPDATE is about 335 bytes in pgoutput.
const schema = `
CREATE TABLE products (id bigint PRIMARY KEY, slug text NOT NULL, name text NOT NULL, description text NOT NULL,
	price_cents bigint NOT NULL, stock int NOT NULL, ver bigint NOT NULL);
INSERT INTO products SELECT n, 'slug-' || n, 'product number ' || n, repeat(md5(n::text), 7), n, 7, 0 FROM generate_series(1, %d) n;
CREATE PUBLICATION bench FOR TABLE products WITH (publish_via_partition_root = true);
`

// lists sends of a row what the rule reads.
const lists = "CREATE PUBLICATION bench_listed FOR TABLE products (id) WITH (publish_via_partition_root = true)"

// write makes a backlog of rows updates behind a new slot, and returns where
// the log ends then.
func write(ctx context.Context, db *pgx.Conn, k Kind, rows int) (end string, err error) {
	if _, err := db.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot); err != nil {
		return "", fmt.Errorf("create the slot: %w", err)
	}
	if _, err := db.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		return "", err
	}
	per := k.PerTx
	if per == 0 {
		per = rows
	}
	// A procedure commits on the server, without a round trip for each.
	const procedure = `CREATE OR REPLACE PROCEDURE churn(total int, per int, many int) LANGUAGE plpgsql AS $$
		BEGIN
		  FOR t IN 0 .. total / per - 1 LOOP
		    UPDATE products SET ver = ver + 1 WHERE id IN (SELECT (t::bigint * per + n) % many + 1 FROM generate_series(0, per - 1) n);
		    COMMIT;
		  END LOOP;
		END $$`
	if _, err := db.Exec(ctx, procedure); err != nil {
		return "", err
	}
	many := products
	if k.Outage {
		many -= quiet
	}
	if per > products {
		// One statement changes a row once, so several make up the transaction.
		tx, err := db.Begin(ctx)
		if err != nil {
			return "", err
		}
		for left := rows; left > 0; left -= products {
			if _, err := tx.Exec(ctx, "UPDATE products SET ver = ver + 1 WHERE id <= $1", min(left, products)); err != nil {
				return "", err
			}
		}
		if err := tx.Commit(ctx); err != nil {
			return "", err
		}
	} else if _, err := db.Exec(ctx, fmt.Sprintf("CALL churn(%d, %d, %d)", rows, per, many)); err != nil {
		return "", err
	}
	if _, err := db.Exec(ctx, "CHECKPOINT"); err != nil {
		return "", err
	}
	return end, db.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end)
}
