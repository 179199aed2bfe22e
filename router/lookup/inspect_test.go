package lookup

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func newRigLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestInspect(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE stores (id int PRIMARY KEY, name text) PARTITION BY RANGE (id)`)
	r.exec(`CREATE TABLE stores_1 PARTITION OF stores FOR VALUES FROM (0) TO (100)`)
	r.exec(`CREATE SCHEMA "Odd One"; CREATE TABLE "Odd One"."T" (id int PRIMARY KEY)`)
	r.exec(`CREATE VIEW seen AS SELECT s.name, m.* FROM menu_stores m LEFT JOIN stores s ON s.id = m.store_id`)
	r.exec(`CREATE MATERIALIZED VIEW stale AS SELECT * FROM menu_stores`)
	r.exec(`CREATE FUNCTION stores_of(int) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT store_id FROM menu_stores WHERE menu_id = $1'`)
	menu, stores := Source{cdc.Table{Schema: "public", Name: "menu_stores"}, true}, Source{cdc.Table{Schema: "public", Name: "stores"}, true}
	for sql, want := range map[string][]Source{
		"SELECT store_id AS x FROM menu_stores WHERE menu_id = $1":                          {menu},
		"SELECT menu_id AS x FROM seen WHERE menu_id = $1":                                  {menu, stores}, // the join is planned away
		"SELECT s.id AS x FROM stores s WHERE s.id = $1":                                    {stores},
		"SELECT id AS x FROM stores_1 WHERE id = $1":                                        {stores},
		`SELECT id AS x FROM "Odd One"."T" WHERE id = $1 AND $2 = 'a'`:                      {{cdc.Table{Schema: "Odd One", Name: "T"}, true}},
		"SELECT store_id AS x FROM stale WHERE menu_id = $1":                                {{cdc.Table{Schema: "public", Name: "stale"}, false}},
		"SELECT f AS x FROM stores_of($1) f":                                                {menu},
		"SELECT 1 AS x WHERE EXISTS (SELECT FROM menu_stores WHERE menu_id = $1 AND false)": {menu},
		"SELECT relname AS x FROM pg_class WHERE oid = $1":                                  nil,
		"SELECT 1 AS x": nil,
		"WITH a AS (SELECT * FROM menu_stores) SELECT a.store_id AS x FROM a, stores WHERE id = 1": {menu, stores},
	} {
		got, err := Inspect(t.Context(), r.conn, lookup(t, sql, "", "x"))
		require.NoError(t, err, sql)
		require.ElementsMatch(t, want, got, sql)
	}
	for sql, want := range map[string]Problem{
		"SELECT store_ix AS x FROM menu_stores WHERE menu_id = $1": {Text: `PostgreSQL says: column "store_ix" does not exist (SQLSTATE 42703); hint: Perhaps you meant to reference the column "menu_stores.store_id".`, Offset: 7},
		"SELECT 'é', é AS x":         {Text: `PostgreSQL says: column "é" does not exist (SQLSTATE 42703)`, Offset: 13},
		"SELECT 1 AS x FROM nowhere": {Text: `PostgreSQL says: relation "nowhere" does not exist (SQLSTATE 42P01)`, Offset: 19},
		"SELEC 1":                    {Text: `PostgreSQL says: syntax error at or near "SELEC" (SQLSTATE 42601)`, Offset: 0},
		"SELECT 1 AS y":              {Text: `values name its column "x", which the answer does not have; it has y`, Offset: -1},
		"SELECT 1 AS x, 2 AS x":      {Text: `the answer has 2 columns "x"; give each a name of its own, with AS`, Offset: -1},
		"DELETE FROM menu_stores RETURNING store_id AS x":                             {Text: `it is not one SELECT that changes nothing; PostgreSQL says: syntax error at or near "FROM" (SQLSTATE 42601)`, Offset: -1},
		"SELECT 1) AS y, (SELECT 1 AS x":                                              {Text: `PostgreSQL says: syntax error at or near ")" (SQLSTATE 42601)`, Offset: 8},
		"SHOW work_mem":                                                               {Text: `it is not one SELECT that changes nothing; PostgreSQL says: syntax error at or near ")" (SQLSTATE 42601)`, Offset: -1},
		"SELECT store_id AS x FROM menu_stores FOR UPDATE":                            {Text: `PostgreSQL says: cannot execute SELECT FOR UPDATE in a read-only transaction (SQLSTATE 25006)`, Offset: -1},
		"WITH d AS (DELETE FROM menu_stores RETURNING store_id AS x) SELECT x FROM d": {Text: `it is not one SELECT that changes nothing; PostgreSQL says: WITH clause containing a data-modifying statement must be at the top level (SQLSTATE 0A000)`, Offset: -1},
	} {
		_, err := Inspect(t.Context(), r.conn, lookup(t, sql, "", "x"))
		var p *Problem
		require.ErrorAs(t, err, &p, sql)
		require.Equal(t, want, *p, sql)
	}
	var left int
	require.NoError(t, r.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'walpurge%'").Scan(&left))
	require.Zero(t, left)

	// A table that is locked is no mistake.
	tx, err := r.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE menu_stores")
	require.NoError(t, err)
	beside, err := pgx.Connect(t.Context(), r.pg.URL("postgres"))
	require.NoError(t, err)
	defer beside.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // short: expires on purpose
	defer cancel()
	var p *Problem
	_, err = Inspect(ctx, beside, lookup(t, "SELECT store_id AS x FROM menu_stores", "", "x"))
	require.Error(t, err)
	require.False(t, errors.As(err, &p))
	require.True(t, passing("57014"))
	require.NoError(t, tx.Rollback(t.Context()))

	r.exec("CREATE ROLE reader LOGIN")
	reader, err := pgx.Connect(t.Context(), r.pg.URL("postgres"))
	require.NoError(t, err)
	defer reader.Close(t.Context())
	_, err = reader.Exec(t.Context(), "SET ROLE reader")
	require.NoError(t, err)
	_, err = Inspect(t.Context(), reader, lookup(t, "SELECT store_id AS x FROM menu_stores WHERE menu_id = $1", "", "x"))
	require.ErrorAs(t, err, &p)
	require.Equal(t, Problem{Text: "PostgreSQL says: permission denied for table menu_stores (SQLSTATE 42501)", Offset: -1, Forbidden: true}, *p)
}
