package integration

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/rules/rulestest"
)

// TestRuleTestsCarryWhatTheStreamCarries makes changes of large values under each
// replica identity. What the stream carries of them must be what a rule test says
// that it carries, and what is not sent must be what the catalog calls toastable.
func TestRuleTestsCarryWhatTheStreamCarries(t *testing.T) {
	t.Parallel()
	pg, conn, exec := database(t, harness.PostgresConfig{})
	// 2,500 digits at random: too much for a row, not for an index.
	exec("CREATE TABLE source AS SELECT string_agg(md5(n::text), '') AS big, left(string_agg(md5(n::text), ''), 2500) AS path FROM generate_series(1, 400) n")
	var tables []cdc.Table
	for _, name := range []string{"bykey", "byrow", "byindex"} {
		tables = append(tables, cdc.Table{Schema: "public", Name: name})
		exec(fmt.Sprintf(`CREATE TABLE %[1]s (id int PRIMARY KEY, path text NOT NULL, short varchar(100), data jsonb, note int); CREATE UNIQUE INDEX %[1]s_index ON %[1]s (id, path)`, name))
	}
	exec("ALTER TABLE byrow REPLICA IDENTITY FULL; ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_index")

	cfg := postgres.DefaultConfig("unchanged")
	cfg.URL = pg.URL("postgres")
	catalog, err := app.LiveCatalog(t.Context(), cfg, tables)
	require.NoError(t, err)
	g := &gatherer{ready: make(chan struct{})}
	reader := postgres.NewReader(cfg, postgres.Options{StopGrace: time.Millisecond, Board: watermark.NewBoard(), Confirm: watermark.ConfirmSynced,
		Logger: slog.New(slog.DiscardHandler), Watch: func() postgres.Watch { return postgres.Watch{Tables: tables} }})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, g) }()
	defer func() { stop(); require.NoError(t, <-done) }()
	<-g.ready

	var path, data string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT path, jsonb_build_object('a', big)::text FROM source`).Scan(&path, &data))
	full := func(id, note int) string {
		return fmt.Sprintf("{id: %d, path: %q, short: s, data: '%s', note: %d}", id, path, data, note)
	}
	left := func(id, note int) string { return fmt.Sprintf("{id: %d, short: s, note: %d}", id, note) }
	var want []string
	for _, table := range tables {
		exec(fmt.Sprintf("INSERT INTO %s SELECT 1, path, 's', jsonb_build_object('a', big), 1 FROM source", table.Name))
		want = append(want, fmt.Sprintf("{table: %s, insert: %s}", table, full(1, 1)))
		exec(fmt.Sprintf("UPDATE %s SET note = 2", table.Name))
		want = append(want, fmt.Sprintf("{table: %s, update: {old: %s, new: %s}}", table, full(1, 1), left(1, 2)))
		exec(fmt.Sprintf("UPDATE %s SET id = 2", table.Name))
		want = append(want, fmt.Sprintf("{table: %s, update: {old: %s, new: %s}}", table, full(1, 2), left(2, 2)))
		exec(fmt.Sprintf("UPDATE %s SET path = 'short', data = '{}'", table.Name))
		want = append(want, fmt.Sprintf("{table: %s, update: {old: %s, new: {id: 2, path: short, short: s, data: {}, note: 2}}}", table, full(2, 2)))
		exec(fmt.Sprintf("UPDATE %s SET note = 3", table.Name))
		want = append(want, fmt.Sprintf("{table: %[1]s, update: {old: {id: 2, path: short, short: s, data: {}, note: 2}, new: {id: 2, path: short, short: s, data: {}, note: 3}}}", table))
		exec("DELETE FROM " + table.Name)
		want = append(want, fmt.Sprintf("{table: %s, delete: {id: 2, path: short, short: s, data: {}, note: 3}}", table))
	}
	eventually(t, 30*time.Second, func() bool { return g.count() == len(want) }, "every change arrives")
	unchanged := 0
	for i, text := range want {
		event, err := rulestest.ParseChange("change", []byte(text), catalog)
		require.NoError(t, err)
		c := event.Change
		name, _, _ := strings.Cut(text, ", data")
		require.Equal(t, carried(g.all[i].rel, g.all[i].old), carried(c.Rel, c.Old), "old row of %d, %.60s", i, name)
		require.Equal(t, carried(g.all[i].rel, g.all[i].new), carried(c.Rel, c.New), "new row of %d, %.60s", i, name)
		require.Equal(t, g.all[i].rel.Identity, c.Rel.Identity)
		for n, v := range g.all[i].new {
			if v.Kind == cdc.Unchanged {
				unchanged++
				col, _ := catalog.Table(tables[i/6]).Column(c.Rel.Columns[n].Name)
				require.True(t, col.Toastable, col.Name)
			}
		}
	}
	require.Equal(t, 12, unchanged, "path and data, in two updates of each table")
}

// carried writes a row down, each value with its state.
func carried(rel *cdc.Relation, row cdc.Tuple) string {
	if row == nil {
		return "none"
	}
	var b strings.Builder
	for i, v := range row {
		fmt.Fprintf(&b, "%s:%d key=%v state=%d %s\n", rel.Columns[i].Name, rel.Columns[i].TypeOID, rel.Columns[i].Key, v.Kind, v.Data)
	}
	return b.String()
}
