package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const menuSchema = `
CREATE TABLE menu_items (id bigint PRIMARY KEY, menu_id bigint, name text NOT NULL DEFAULT '');
ALTER TABLE menu_items REPLICA IDENTITY FULL;
CREATE TABLE menu_stores (menu_id bigint, store_id bigint, PRIMARY KEY (menu_id, store_id));
CREATE TABLE hidden (id int);
`

const menuRules = `rules:
  - name: menu
    table: public.menu_items
    lookup: {m: {sql: "SELECT store_id FROM menu_stores WHERE menu_id = $1", args: ["{menu_id}"], timeout: 10s}}
    keys: ["menu:{m.store_id}"]
    unknown: {keys: ["menus"], covers: true}
    sinks: [cache]
  - name: stores
    table: public.menu_stores
    keys: ["store:{store_id}"]
    sinks: [cache]
  - name: by-hand
    message: cache.purge
    unknown: {keys: ["all"]}
`

func newMenuRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, rigOptions{schema: menuSchema, catalog: menuRules})
	r.sinkExtra = "    flush: {key_patterns: ['*']}"
	return r
}

// TestLookupSeesTheCommit asks for rows that the very transaction wrote, many times:
// asked a moment too soon, they would not be there.
func TestLookupSeesTheCommit(t *testing.T) {
	t.Parallel()
	r := newMenuRig(t)
	d := r.start()
	const rounds = 300
	keys := []string{"menus"}
	for n := 1; n <= rounds; n++ {
		keys = append(keys, fmt.Sprint("menu:", 10_000+n))
	}
	r.fill(keys)
	for n := 1; n <= rounds; n++ {
		r.exec(fmt.Sprintf(`BEGIN; INSERT INTO menu_stores SELECT %[1]d, 10000 + %[1]d; INSERT INTO menu_items VALUES (%[1]d, %[1]d); COMMIT`, n))
	}
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"menus"}, r.held(keys...))
	require.Equal(t, "0", d.metric(`walpurge_rule_unknown_total{rule="menu"}`))
	require.NotEqual(t, "0", d.metric(`walpurge_lookup_seconds_count`))

	// An item that moves is gone from both menus, one without a menu from none, and
	// one whose menu is nowhere takes what unknown names.
	r.fill([]string{"menu:10001", "menu:10002", "menu:10003"})
	r.exec("UPDATE menu_items SET menu_id = 2 WHERE id = 1")
	r.exec("INSERT INTO menu_items VALUES (1000, NULL)")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"menus", "menu:10003"}, r.held("menus", "menu:10001", "menu:10002", "menu:10003"))
	r.exec("INSERT INTO menu_items VALUES (1001, 99999)")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("menus"))
	require.Equal(t, "1", d.metric(`walpurge_rule_unknown_total{rule="menu"}`))

	// A large transaction goes in parts.
	r.fill(append([]string{"menus"}, keys[1:]...))
	r.exec("UPDATE menu_items SET name = 'x' WHERE menu_id <= 300")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"menus", "menu:10001"}, r.held(append([]string{"menus"}, keys[1:]...)...))
}

// TestLookupWaitsForVisibility: a commit that no reader sees yet is in the stream,
// and asked now the database would answer with the rows before it.
func TestLookupWaitsForVisibility(t *testing.T) {
	t.Parallel()
	r := newMenuRig(t)
	r.exec("INSERT INTO menu_items VALUES (1, 1); INSERT INTO menu_stores VALUES (1, 1)")
	r.config(freeAddr(t))
	// Lookups wait where purges do not.
	d := r.launchFile(strings.Replace(r.read("walpurge.yaml"), "postgres:\n", "postgres:\n  visible: false\n", 1))
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"menu:1", "menu:2", "menus"})
	r.hang()
	committed := make(chan error, 1)
	go func() {
		_, err := r.db.Exec(context.Background(), "UPDATE menu_stores SET store_id = 2; UPDATE menu_items SET name = 'new' WHERE id = 1")
		committed <- err
	}()
	eventually(t, 20*time.Second, func() bool {
		var sent bool
		require.NoError(t, r.db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE menu%')
			AND (SELECT bool_or(sent_lsn >= pg_current_wal_flush_lsn()) FROM pg_stat_replication)`).Scan(&sent))
		return sent
	}, "the commit waits, and the stream has it")
	r.release()
	require.NoError(t, <-committed)
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"menu:1", "menus"}, r.held("menu:1", "menu:2", "menus"))
}

// TestLookupOfALockedTable: unknown is purged in the place of the answer, and the
// line goes on.
func TestLookupOfALockedTable(t *testing.T) {
	t.Parallel()
	r := newMenuRig(t)
	r.edit("rules/catalog.yaml", "timeout: 10s", "timeout: 300ms")
	r.exec("INSERT INTO menu_items VALUES (1, 1); INSERT INTO menu_stores VALUES (1, 1)")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"menu:1", "menus"})
	conn, err := r.db.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN; LOCK TABLE menu_stores")
	require.NoError(t, err)
	for n := 2; n < 6; n++ {
		r.exec(fmt.Sprintf("INSERT INTO menu_items VALUES (%d, 1)", n))
		d.wait(r.lsn(), 20*time.Second)
	}
	require.Equal(t, []string{"menu:1"}, r.held("menu:1", "menus"))
	require.NotEqual(t, "0", d.metric(`walpurge_rule_unknown_total{rule="menu"}`))
	d.logged("rules take what unknown: names")
	_, err = conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	n := 100
	eventually(t, 30*time.Second, func() bool {
		n++
		r.exec(fmt.Sprintf("INSERT INTO menu_items VALUES (%d, 1)", n))
		d.wait(r.lsn(), 20*time.Second)
		return len(r.held("menu:1")) == 0
	}, "the lookup is asked again")
}

// TestMessagePurges: what a transaction asks for is purged if it commits, and what
// is unfit harms nobody.
func TestMessagePurges(t *testing.T) {
	t.Parallel()
	r := newMenuRig(t)
	r.write("rules/catalog.yaml", menuRules[:7]+menuRules[strings.Index(menuRules, "  - name: by-hand"):])
	d := r.start()
	emit := func(transactional bool, prefix, content string) string {
		return fmt.Sprintf("SELECT pg_logical_emit_message(%v, '%s', '%s')", transactional, prefix, content)
	}
	all := []string{"home", "other", "all"}
	r.fill(all, "/front")
	for _, sql := range []string{
		"BEGIN; " + emit(true, "cache.purge", `{"keys": ["other"]}`) + "; ROLLBACK",
		"BEGIN; SAVEPOINT s; " + emit(true, "cache.purge", `{"keys": ["other"]}`) + "; ROLLBACK TO s; INSERT INTO hidden VALUES (1); COMMIT",
		emit(false, "cache.purge", `{"keys": ["other"]}`),
		emit(true, "cache.purged", `{"keys": ["other"]}`),
		emit(true, "cache.purge", `{"keys": ["home"], "tags": ["front"]}`),
	} {
		r.exec(sql)
	}
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"other", "all"}, r.held(all...))
	require.False(t, r.edge.Stored(r.edge.URL()+"/front"))
	require.Equal(t, "0", d.metric(`walpurge_rule_errors_total{rule="by-hand"}`))

	r.fill(all)
	r.exec(emit(true, "cache.purge", `{"keys": ["secret-1", "home"`))
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"home", "other"}, r.held(all...), "unknown stands in")
	for _, content := range []string{"", "[]", `{"keys": [""], "key_prefixes": [""]}`, `{"flush": true, "keys": "*"}`, strings.Repeat("[", 100_000), strings.Repeat("x", 2<<20)} {
		r.exec(emit(true, "cache.purge", content))
	}
	r.exec("INSERT INTO hidden VALUES (2)")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"home", "other"}, r.held("home", "other"))
	require.Equal(t, "7", d.metric(`walpurge_rule_errors_total{rule="by-hand"}`))
	require.Equal(t, "streaming", d.status().Reader.State)
	d.logged("a message asks for what cannot be purged")
	require.NotContains(t, d.logs.String(), "secret-1")
}

// TestCheckLookups: every statement is tried, and what it reads must be watched.
func TestCheckLookups(t *testing.T) {
	t.Parallel()
	r := newMenuRig(t)
	r.config(freeAddr(t))
	require.Zero(t, r.call("check").code)
	at := r.path("rules/catalog.yaml") + ":"
	r.edit("rules/catalog.yaml", "table: public.menu_stores", "table: public.menu_items", "store:{store_id}", "store:{id}")
	o := r.call("check")
	require.Equal(t, 1, o.code)
	require.Equal(t, at+`4: rule "menu": lookup "m" reads public.menu_stores, which no rule watches, so a change of it leaves the old entry in the cache; add a rule with table: public.menu_stores`+"\n", o.stdout)
	for _, c := range []struct {
		old, new, want string
		code           int
	}{
		{"SELECT store_id", "SELECT stor_id AS store_id", at + `4:31: rule "menu": lookup "m": PostgreSQL says: column "stor_id" does not exist (SQLSTATE 42703)`, 2},
		{"SELECT store_id", "SELECT store_id AS store", `lookup "m": values name its column "store_id", which the answer does not have; it has store`, 2},
		{"SELECT store_id FROM menu_stores", "DELETE FROM menu_stores", `lookup "m": it is not one SELECT that changes nothing`, 2},
		{"SELECT store_id FROM menu_stores WHERE menu_id = $1", "SELECT 1; SELECT 2", "it has several statements", 2},
		{"{menu_id}", "{menu}", `rule "menu": lookup "m": argument "{menu}": table public.menu_items has no column "menu"; it has id, menu_id, name`, 2},
		{"lookup: {m:", "lookup: {name:", `lookup "name" is called like a column of public.menu_items`, 1},
	} {
		r.write("rules/catalog.yaml", menuRules)
		r.edit("rules/catalog.yaml", c.old, c.new)
		if strings.HasPrefix(c.new, "lookup") {
			r.edit("rules/catalog.yaml", "{m.store_id}", "{name.store_id}")
		}
		o := r.call("check")
		require.Equal(t, c.code, o.code, "%s: %s%s", c.new, o.stdout, o.stderr)
		require.Contains(t, o.stdout, c.want)
		if c.code == 2 {
			o = r.call("run")
			require.Equal(t, 2, o.code, o.stderr)
		}
	}
	r.write("rules/catalog.yaml", menuRules)
	r.edit("rules/catalog.yaml", "by-hand", "by-hand-2")
	r.sinkExtra = ""
	r.config(freeAddr(t))
	o = r.call("check", "--offline")
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stdout, "sink cache cannot be flushed after a gap")
	require.Contains(t, o.stdout, `messages "cache.purge" may name any key`)
	r.untouched()
}
