package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// TestViewsNameTheirTables: what is no table is refused with what to watch instead.
func TestViewsNameTheirTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(`CREATE TABLE orders (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (9);
		CREATE SCHEMA shop; CREATE VIEW shop.inner_view AS SELECT i.id FROM items i JOIN orders_1 o USING (id);
		CREATE VIEW outer_view AS SELECT * FROM shop.inner_view; CREATE MATERIALIZED VIEW ranking AS SELECT count(*) FROM outer_view;
		CREATE VIEW empty AS SELECT 1 AS one; CREATE SEQUENCE numbers;
		CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE far (id int) SERVER files OPTIONS (filename '/dev/null')`)
	name := func(n string) cdc.Table { return cdc.Table{Schema: "public", Name: n} }
	for relation, want := range map[string]string{
		"outer_view": `public.outer_view is a view, and only tables have changes; fix: write rules for the tables behind it: public.items, public.orders`,
		"ranking": `public.ranking is a materialized view, and only tables have changes; fix: write rules for the tables behind it: public.items, public.orders; ` +
			"what REFRESH changes is purged by a rule with `message: cache.purge` and, in the transaction of each REFRESH MATERIALIZED VIEW \"public\".\"ranking\", after it: " +
			`SELECT pg_logical_emit_message(true, 'cache.purge', '{"keys": ["ranking"]}');`,
		"empty":   `public.empty is a view, and only tables have changes; fix: take its rules out: it reads no table`,
		"far":     `public.far is a foreign table, whose changes are in the log of another database; fix: take its rules out, and watch the table in its own database, with another pipeline`,
		"numbers": `public.numbers is not a table; fix: name an ordinary or a partitioned table: only those have changes`,
	} {
		_, err := Inspect(t.Context(), s.conn, "none", []cdc.Table{items, name(relation)})
		require.EqualError(t, err, want)
		var missing *Missing
		require.ErrorAs(t, err, &missing)
	}
	tables, err := Schema(t.Context(), s.conn, []string{"public", "shop"}, func(cdc.Table) bool { return true })
	require.NoError(t, err)
	behind := make(map[string][]cdc.Table)
	for _, table := range tables {
		if table.Kind == 'v' || table.Kind == 'm' {
			behind[table.String()] = table.Behind
		}
	}
	both := []cdc.Table{items, name("orders")}
	require.Equal(t, map[string][]cdc.Table{"shop.inner_view": both, "public.outer_view": both, "public.ranking": both, "public.empty": nil}, behind)
	// The statement works as it is.
	s.exec(`BEGIN; REFRESH MATERIALIZED VIEW ranking; ` + RefreshMessage(name(`it's "so"`)) + ` COMMIT`)
}

// TestPatternsMatchMoreThanTables: an unlogged table that a pattern matches is a problem as long as it is
// unlogged. Views, and partitions of tables that are not watched, are reported.
func TestPatternsMatchMoreThanTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(`CREATE SCHEMA tenant_a; CREATE TABLE tenant_a.orders (id int PRIMARY KEY, note text);
		CREATE SCHEMA tenant_b; CREATE UNLOGGED TABLE tenant_b.orders (id int PRIMARY KEY, note text);
		CREATE SCHEMA tenant_c; CREATE VIEW tenant_c.orders AS SELECT * FROM tenant_a.orders;
		CREATE TABLE tree (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE SCHEMA tenant_d; CREATE TABLE tenant_d.orders PARTITION OF tree DEFAULT;
		CREATE SCHEMA tenant_e; CREATE TABLE tenant_e.orders PARTITION OF tree FOR VALUES FROM (0) TO (1)`)
	s.watches = Watch{Matches: func(t cdc.Table) bool { return t.Name == "orders" && t.Schema != "tenant_e" }}
	tables, left, err := s.cfg.ResolveAll(t.Context(), s.conn, s.watches)
	require.NoError(t, err)
	require.Equal(t, []cdc.Table{{Schema: "tenant_a", Name: "orders"}}, tables)
	require.Len(t, left, 1)
	require.EqualError(t, left[0], `table tenant_b.orders is unlogged or temporary; fix: take its rules out, or ALTER TABLE "tenant_b"."orders" SET LOGGED: the log has changes of ordinary tables only`)
	others, err := s.cfg.NotTables(t.Context(), s.conn, s.watches)
	require.NoError(t, err)
	var texts []string
	for _, fault := range others {
		texts = append(texts, fault.Error())
	}
	require.Equal(t, []string{
		"tenant_c.orders is a view, and only tables have changes; fix: write rules for the tables behind it: tenant_a.orders",
		"table tenant_d.orders is a partition; fix: watch its root public.tree in the rule",
	}, texts)

	r := s.run(&sinkhole{}, Streaming)
	r.compared(t)
	require.Equal(t, []string{left[0].Error()}, r.problems())
	s.exec("INSERT INTO tenant_b.orders VALUES (1)")
	s.exec("ALTER TABLE tenant_b.orders SET LOGGED")
	r.compared(t)
	require.Empty(t, r.problems())
	b := cdc.Table{Schema: "tenant_b", Name: "orders"}
	eventually(t, hang, func() bool { return r.gapOf(b) }, "what changed while it was unlogged is purged")
	s.exec("ALTER PUBLICATION walpurge_test DROP TABLE tenant_b.orders; ALTER TABLE tenant_b.orders SET UNLOGGED")
	r.compared(t)
	require.Equal(t, []string{left[0].Error()}, r.problems())
}
