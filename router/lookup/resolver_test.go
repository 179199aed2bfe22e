package lookup

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// TestAnswers: together and one by one a lookup has the same answers, in the order
// of the questions, and in the text form of the stream.
func TestAnswers(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name, sql, more string
		args            [][]string
		want            []string
		together        bool
	}{
		{"by a column", "SELECT store_id FROM menu_stores WHERE menu_id = $1 ORDER BY 1", "", [][]string{{"1"}, {"50"}, {"0"}, {"7777"}}, []string{"3 4 5", "150 151 152", "0 1 2", ""}, true},
		{"two parameters of different types", "SELECT slug FROM menu_stores WHERE store_id = $2 AND slug = $1;", "", [][]string{{"S7", "7"}, {"S8", "7"}}, []string{"S7", ""}, true},
		{"a parameter twice", "SELECT store_id FROM menu_stores WHERE store_id = $1 OR store_id = $1 + 1 ORDER BY 1 -- end", "", [][]string{{"1"}, {"5"}}, []string{"1 2", "5 6"}, true},
		{"text forms", "SELECT at, raw, price, code, menu_id = 0 AS yes, NULL AS none FROM menu_stores WHERE store_id = $1", "", [][]string{{"1"}, {"4"}},
			[]string{`2026-11-20 12:00:00+00|\x01ff|1.50|c   |t|NULL`, `2026-11-20 12:00:00+00|\x01ff|1.50|c   |f|NULL`}, true},
		{"char is not cut to one character", "SELECT store_id FROM menu_stores WHERE code = $1 AND store_id < 2 ORDER BY 1", "", [][]string{{"c"}, {"cc"}, {"c  "}}, []string{"0 1", "", "0 1"}, true},
		{"an aggregate has a row always", "SELECT count(*), max(store_id) FROM menu_stores WHERE menu_id = $1", "", [][]string{{"1"}, {"7777"}}, []string{"3|5", "0|NULL"}, true},
		{"an aggregate over the parameter cannot go together", "SELECT max($1::int) AS m", "", [][]string{{"1"}, {"2"}}, []string{"1", "2"}, false},
		{"with", "WITH x AS (SELECT * FROM menu_stores WHERE menu_id = $1) SELECT store_id FROM x ORDER BY store_id LIMIT 1", "", [][]string{{"1"}, {"2"}}, []string{"3", "6"}, true},
		{"union", "SELECT $1::text AS a UNION ALL SELECT 'x'", "", [][]string{{"1"}, {"$2"}}, []string{"1 x", "$2 x"}, true},
		{"hostile arguments", "SELECT $1::text AS a", "", [][]string{{`'); DROP TABLE menu_stores; --`}, {`{"a","b"}`}, {""}, {"NULL"}, {"a\\b\nc"}}, []string{`'); DROP TABLE menu_stores; --`, `{"a","b"}`, "", "NULL", "a\\b\nc"}, true},
		{"names of our own", "SELECT a1, n FROM (SELECT 5 AS a1, store_id AS n FROM menu_stores WHERE store_id = $1) walpurge_args", "", [][]string{{"1"}, {"2"}}, []string{"5|1", "5|2"}, true},
		{"an array", "SELECT store_id FROM menu_stores WHERE store_id = ANY($1) ORDER BY 1", "", [][]string{{"{1,2}"}, {"{}"}}, []string{"1 2", ""}, true},
		{"one that does not fit", "SELECT store_id FROM menu_stores WHERE store_id = $1", "", [][]string{{"1"}, {"secret"}, {"2"}}, []string{"1", "error: an argument or a value does not fit its type (SQLSTATE 22P02)", "2"}, true},
		{"a division by zero", "SELECT 1 / store_id AS a FROM menu_stores WHERE store_id = $1", "", [][]string{{"1"}, {"0"}}, []string{"1", "error: an argument or a value does not fit its type (SQLSTATE 22012)"}, true},
		{"one row more than the limit", "SELECT store_id FROM menu_stores WHERE menu_id = $1 OR $1 = -1 ORDER BY 1", "        limit: 3\n", [][]string{{"1"}, {"-1"}}, []string{"3 4 5", "0 1 2 3"}, true},
		{"a NULL", "SELECT store_id FROM menu_stores WHERE menu_id = $1", "", [][]string{{"1000"}}, []string{"NULL"}, true},
		{"no parameters", "SELECT count(*) FROM menu_stores", "", [][]string{{}, {}}, []string{"301", "301"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			l := lookup(t, c.sql, c.more+"        timeout: 20s\n", "x")
			require.Equal(t, c.want, texts(r.ask(l, c.args...)))
			st := r.resolver.statements[spec{l.SQL, l.Limit}]
			if st != nil {
				require.Equal(t, c.together, st.many != "")
			}
			for i := range c.args {
				got := texts(r.ask(l, c.args[i]))
				require.Equal(t, c.want[i], got[0])
				delete(r.resolver.resting, spec{l.SQL, l.Limit})
			}
		})
	}
	require.Equal(t, int64(1), r.connects.Load(), "one connection for all")
	require.NotContains(t, r.log.String(), "secret")
}

// TestSeveralStatements: what fails takes only its own questions along.
func TestSeveralStatements(t *testing.T) {
	r := newRig(t)
	good := lookup(t, "SELECT store_id FROM menu_stores WHERE store_id = $1", "        timeout: 20s\n", "x")
	bad := lookup(t, "SELECT store_id FROM gone WHERE store_id = $1", "        timeout: 20s\n", "x")
	writes := lookup(t, "SELECT setval('s', $1)", "        timeout: 20s\n", "x")
	r.exec("CREATE SEQUENCE s")
	got := texts(r.resolver.Resolve(t.Context(), cdc.Stamp{}, []rules.Query{
		{Lookup: good, Args: []string{"1"}}, {Lookup: bad, Args: []string{"1"}}, {Lookup: writes, Args: []string{"1"}}, {Lookup: good, Args: []string{"2"}},
	}))
	require.Equal(t, []string{"1", `error: relation "gone" does not exist (SQLSTATE 42P01)`, "error: cannot execute setval() in a read-only transaction (SQLSTATE 25006)", "2"}, got)
	require.Equal(t, int64(1), r.connects.Load())
	require.Contains(t, r.log.String(), "rule=menu lookup=m")

	// It rests for as long as it might have taken; then it is there.
	r.resolver.resting[spec{bad.SQL, bad.Limit}] = time.Now().Add(time.Hour)
	require.Equal(t, []string{"error: " + errResting.Error()}, texts(r.ask(bad, []string{"1"})))
	require.Equal(t, []string{"1"}, texts(r.ask(good, []string{"1"})))
	r.resolver.resting[spec{bad.SQL, bad.Limit}] = time.Now()
	r.exec("CREATE TABLE gone AS SELECT 5 AS store_id")
	r.settle(bad, "5")
	// Altered under a prepared statement, it is prepared again.
	r.exec("ALTER TABLE gone ALTER store_id TYPE text")
	r.settle(bad, "5")
}

// settle asks until the answer is the argument itself; failures do not rest.
func (r *rig) settle(l *rules.Lookup, arg string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		delete(r.resolver.resting, spec{l.SQL, l.Limit})
		return texts(r.ask(l, []string{arg}))[0] == arg
	}, 20*time.Second, 20*time.Millisecond)
}

// TestLockedTable: the answer is waited for as long as the timeout says, the
// connection survives, and the next one comes.
func TestLockedTable(t *testing.T) {
	r := newRig(t)
	r.resolver.grace = time.Minute // the server speaks, however busy it is
	l := lookup(t, "SELECT store_id FROM menu_stores WHERE store_id = $1", "        timeout: 100ms\n", "x")
	patient := lookup(t, l.SQL, "        timeout: 20s\n", "x")
	other := lookup(t, "SELECT menu_id FROM menu_stores WHERE store_id = $1", "        timeout: 100ms\n", "x")
	require.Equal(t, []string{"1", "2"}, texts(r.ask(patient, []string{"1"}, []string{"2"})))
	tx, err := r.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE menu_stores")
	require.NoError(t, err)
	for _, args := range [][][]string{{{"1"}}, {{"1"}, {"2"}}} {
		delete(r.resolver.resting, spec{l.SQL, l.Limit})
		began := time.Now()
		for _, text := range texts(r.ask(l, args...)) {
			require.Equal(t, "error: it took longer than its timeout (SQLSTATE 57014)", text)
		}
		require.GreaterOrEqual(t, time.Since(began), 90*time.Millisecond)
		require.Contains(t, r.resolver.resting, spec{l.SQL, l.Limit})
	}
	// Preparing waits for the lock as well.
	require.Equal(t, "error: it took longer than its timeout (SQLSTATE 57014)", texts(r.ask(other, []string{"1"}))[0])
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool { return texts(r.ask(patient, []string{"1"}))[0] == "1" }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, int64(1), r.connects.Load(), "a timeout costs no connection")
}

// TestLostConnection: one that is found lost is replaced at once; a server that is
// away is tried again after a while.
func TestLostConnection(t *testing.T) {
	r := newRig(t)
	l := lookup(t, "SELECT store_id FROM menu_stores WHERE store_id = $1", "        timeout: 20s\n", "x")
	require.Equal(t, []string{"1"}, texts(r.ask(l, []string{"1"})))
	r.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
	require.Equal(t, []string{"2", "3"}, texts(r.ask(l, []string{"2"}, []string{"3"})))
	require.Equal(t, int64(2), r.connects.Load())

	_, err := r.pg.Stop(t.Context(), "immediate")
	require.NoError(t, err)
	require.Contains(t, texts(r.ask(l, []string{"1"}))[0], "error: connect for lookups")
	require.False(t, r.resolver.rest.IsZero())
	before := r.connects.Load()
	r.resolver.rest = time.Now().Add(time.Hour)
	require.Equal(t, []string{"error: " + errResting.Error()}, texts(r.ask(l, []string{"1"})))
	require.Equal(t, before, r.connects.Load())
	r.resolver.rest = time.Now()
	require.NoError(t, r.pg.Restart(t.Context()))
	require.Eventually(t, func() bool { return texts(r.ask(l, []string{"1"}))[0] == "1" }, 30*time.Second, 20*time.Millisecond)
}

// TestInvisible: what cannot be seen yet is not asked for.
func TestInvisible(t *testing.T) {
	asked := false
	r := New(Config{
		Visible: func(ctx context.Context, _ cdc.Stamp) error {
			asked = true
			<-ctx.Done()
			return context.Cause(ctx)
		},
		Logger: newRigLogger(),
	})
	l := lookup(t, "SELECT 1 AS x", "        timeout: 20ms\n", "x")
	got := r.Resolve(t.Context(), cdc.Stamp{XIDs: []uint64{7}}, []rules.Query{{Lookup: l}})
	require.True(t, asked)
	require.ErrorIs(t, got[0].Err, errTooLate)
	r.rest = time.Now().Add(time.Hour)
	require.True(t, errors.Is(r.Resolve(t.Context(), cdc.Stamp{}, []rules.Query{{Lookup: l}})[0].Err, errResting))
}

// TestTooMuch: answers that would fill the memory are not taken.
func TestTooMuch(t *testing.T) {
	r := newRig(t)
	l := lookup(t, "SELECT repeat('x', 1000000) AS x FROM generate_series(1, $1)", "        timeout: 20s\n", "x")
	require.Contains(t, texts(r.ask(l, []string{"40"}))[0], "the answers have more than")
	require.Eventually(t, func() bool { return len(r.ask(l, []string{"3"})[0].Rows) == 3 }, 60*time.Second, 20*time.Millisecond)
}

// TestSettingsOfTheRole: neither time-outs nor formats nor a path of the role reach a lookup.
func TestSettingsOfTheRole(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE kinds (id int PRIMARY KEY, at timestamptz, b bytea); INSERT INTO kinds VALUES (1, '2026-01-02 03:04:05+00', '\xdead')`)
	r.exec(`CREATE SCHEMA other; CREATE TABLE other.kinds (id int PRIMARY KEY, at text, b text)`)
	for _, set := range []string{"idle_session_timeout = '200ms'", "statement_timeout = '200ms'", "DateStyle = 'German'", "TimeZone = 'Asia/Tokyo'", "bytea_output = 'escape'",
		"search_path = other, public", "default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on", "client_encoding = 'LATIN1'"} {
		r.exec("ALTER ROLE postgres SET " + set)
	}
	l := lookup(t, "SELECT at, b, 'ü' AS u FROM kinds, pg_sleep(0.4) WHERE id = $1", "        timeout: 30s\n", "at")
	for range 2 {
		require.Equal(t, []string{`2026-01-02 03:04:05+00|\xdead|ü`}, texts(r.ask(l, []string{"1"})))
		r.exec("SELECT pg_sleep(0.4)")
	}
	require.Equal(t, int64(1), r.connects.Load(), "an idle connection lives on")
}
