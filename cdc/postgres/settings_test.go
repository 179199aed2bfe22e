package postgres

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// roleSettings are what a role or a database of a real server may have set, with what a session
// must have instead; empty where it must not be read back.
var roleSettings = map[string][2]string{
	"client_encoding": {"LATIN1", "UTF8"}, "DateStyle": {"German", "ISO, MDY"}, "IntervalStyle": {"sql_standard", "postgres"},
	"TimeZone": {"Asia/Tokyo", "UTC"}, "bytea_output": {"escape", "hex"}, "extra_float_digits": {"-15", "1"}, "xmlbinary": {"hex", "base64"},
	"search_path": {"public, pg_catalog", "pg_catalog"}, "statement_timeout": {"2s", "0"}, "lock_timeout": {"2s", "0"},
	"idle_in_transaction_session_timeout": {"2s", "0"}, "idle_session_timeout": {"2s", "0"}, "transaction_timeout": {"2s", "0"},
	"default_transaction_read_only": {"on", "off"}, "default_transaction_isolation": {"serializable", "read committed"},
	"default_transaction_deferrable": {"on", "off"}, "row_security": {"on", "off"}, "standard_conforming_strings": {"off", "on"},
	"backslash_quote": {"on", "safe_encoding"}, "array_nulls": {"off", "on"}, "xmloption": {"document", "content"},
	"quote_all_identifiers": {"on", "off"}, "transform_null_equals": {"on", "off"}, "plan_cache_mode": {"force_generic_plan", "auto"}, "jit": {"on", "off"},
	"exit_on_error": {"on", "off"}, "client_min_messages": {"debug5", "warning"}, "restrict_nonsystem_relation_kind": {"view, foreign-table", ""},
}

// alter sets all of roleSettings that the server knows.
func (s *server) alter(target string) (known []string) {
	s.t.Helper()
	for name, value := range roleSettings {
		var has bool
		require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT current_setting($1, true) IS NOT NULL", name).Scan(&has))
		if !has {
			continue
		}
		known = append(known, name)
		text := "'" + value[0] + "'"
		if name == "search_path" || name == "DateStyle" {
			text = value[0]
		}
		s.exec(fmt.Sprintf("ALTER %s SET %s = %s", target, name, text))
	}
	return known
}

func TestSettingsOfRolesAndDatabasesDoNotReachASession(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("CREATE ROLE app LOGIN SUPERUSER REPLICATION")
	s.cfg.URL = s.pg.URL("postgres", "app")
	var known []string
	for _, target := range []string{"ROLE app", "DATABASE postgres", "ROLE app IN DATABASE postgres"} {
		known = s.alter(target)
	}
	plain, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	var got string
	require.NoError(t, plain.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&got))
	require.Equal(t, "2s", got, "an ordinary session has them")
	require.NoError(t, plain.Close(t.Context()))

	replica, err := s.cfg.ReadReplica(s.cfg.URL)
	require.NoError(t, err)
	connects := map[string]func() (*pgconn.PgConn, error){
		"ordinary":    func() (*pgconn.PgConn, error) { c, err := s.cfg.Connect(t.Context()); return pgOf(c), err },
		"lookup":      func() (*pgconn.PgConn, error) { c, err := s.cfg.ConnectReading(t.Context()); return pgOf(c), err },
		"replica":     func() (*pgconn.PgConn, error) { c, err := replica.Connect(t.Context()); return pgOf(c), err },
		"replication": func() (*pgconn.PgConn, error) { c, _, err := s.cfg.connectReplication(t.Context()); return c, err },
	}
	for kind, connect := range connects {
		t.Run(kind, func(t *testing.T) {
			conn, err := connect()
			require.NoError(t, err)
			defer conn.Close(t.Context())
			for _, name := range known {
				want := roleSettings[name][1]
				switch {
				case kind == "lookup" && name == "search_path":
					want = `"$user", public`
				case kind == "lookup" && name == "default_transaction_read_only":
					want = "on"
				}
				results, err := conn.Exec(t.Context(), "SHOW "+name).ReadAll()
				require.NoError(t, err)
				require.Equal(t, want, string(results[0].Rows[0][0]), name)
			}
		})
	}
	// A whole session on it.
	h := &sinkhole{}
	s.run(h, Streaming)
	s.exec("INSERT INTO items VALUES (0, 'x')")
	eventually(t, 30*time.Second, func() bool { return h.has(1) }, "the row arrives")
}

func pgOf(c *pgx.Conn) *pgconn.PgConn {
	if c == nil {
		return nil
	}
	return c.PgConn()
}

// TestTablesNamedLikeCatalogs: with public before pg_catalog in the path of the role.
func TestTablesNamedLikeCatalogs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, name := range strings.Fields("pg_class pg_namespace pg_publication pg_publication_rel pg_replication_slots pg_attribute pg_index pg_type pg_roles pg_locks pg_settings pg_database pg_range pg_depend pg_constraint") {
		s.exec("CREATE TABLE public." + name + " (id int PRIMARY KEY, oid text, relname int)")
	}
	s.exec(`CREATE FUNCTION public.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE FUNCTION public.pg_current_wal_insert_lsn() RETURNS pg_lsn LANGUAGE sql AS $$SELECT '0/1'::pg_lsn$$;
		CREATE FUNCTION public.never(name, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.never);
		ALTER DATABASE postgres SET search_path = public, pg_catalog`)
	for _, f := range []string{"md5(text)", "to_jsonb(anyelement)", "quote_ident(text)", "obj_description(oid, name)", "pg_get_publication_tables(text)", "unnest(oid[])", "json_build_object(VARIADIC anyarray)", "format(text, text, text)"} {
		s.exec("CREATE FUNCTION public." + f + " RETURNS text LANGUAGE sql AS $$SELECT 'no'::text$$")
	}
	s.exec("CREATE TEMP TABLE pg_inherits (id int); CREATE TEMP TABLE pg_enum (id int)")
	s.watches = Watch{Tables: public("items", "pg_class")}
	// What setup prints, in a session that begins with this path.
	conn, err := s.cfg.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	steps, _, err := s.cfg.Setup(t.Context(), conn, s.watches)
	require.NoError(t, err)
	s.psql(JoinSteps(steps))
	slot, err := s.cfg.slot(t.Context(), conn)
	require.NoError(t, err)
	_, unread, err := s.cfg.unread(t.Context(), conn, slot)
	require.NoError(t, err)
	require.True(t, unread)
	require.NoError(t, s.cfg.Ready(t.Context(), conn, s.watches.Tables, s.watches))
	h := &sinkhole{}
	r := s.run(h, Streaming)
	s.exec("INSERT INTO public.items VALUES (0, 'x'); INSERT INTO public.pg_class VALUES (1, 'y')")
	eventually(t, 30*time.Second, func() bool { return h.has(2) }, "rows of both arrive")
	r.end(t)
	_, err = InspectIdentities(t.Context(), conn, cdc.Table{Schema: "public", Name: "items"})
	require.NoError(t, err)
	_, err = Schema(t.Context(), conn, []string{"public"}, func(cdc.Table) bool { return true })
	require.NoError(t, err)
	_, err = s.cfg.ReadChange(t.Context(), conn, public("items")[0], "id = 0", cdc.Update)
	require.NoError(t, err)
	require.NoError(t, s.cfg.Drop(t.Context(), conn))
}

// TestReadOnlyByDefault: managed services make a server with a full disk read-only that way.
func TestReadOnlyByDefault(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("ALTER DATABASE postgres SET default_transaction_read_only = on; ALTER ROLE postgres SET default_transaction_read_only = on")
	for _, attrs := range []string{"", "any", "primary", "read-write"} {
		cfg := s.cfg
		if attrs != "" {
			cfg.URL += "&target_session_attrs=" + attrs
		}
		conn, err := cfg.Connect(t.Context())
		require.NoError(t, err, attrs)
		require.NoError(t, conn.Close(t.Context()))
	}
	h := &sinkhole{}
	s.run(h, Streaming)
	s.exec("INSERT INTO items VALUES (0, 'x')")
	eventually(t, 30*time.Second, func() bool { return h.has(1) }, "the row arrives")
}

// TestSlotWithTwoPhase: its stream has messages that nothing here could use.
func TestSlotWithTwoPhase(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("SELECT pg_create_logical_replication_slot('walpurge_test', 'pgoutput', false, true)")
	_, err := s.cfg.Plan(t.Context(), s.conn, public("items"), Watch{})
	require.ErrorContains(t, err, `slot "walpurge_test" has two_phase enabled`)
	require.ErrorContains(t, err, "fix: ")
	require.True(t, isFault(err))
	err = NewReader(s.cfg, Options{Board: watermark.NewBoard(), Watch: s.watch, Logger: slog.New(slog.DiscardHandler)}).Run(t.Context(), &sinkhole{})
	require.ErrorContains(t, err, "two_phase")
}

// TestSlotIsCreatedInSpiteOfStatementTimeout: its creation waits for each transaction that is open.
func TestSlotIsCreatedInSpiteOfStatementTimeout(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("ALTER ROLE postgres SET statement_timeout = '200ms'; ALTER ROLE postgres SET lock_timeout = '200ms'")
	tx, err := s.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO items VALUES (7, 'open')")
	require.NoError(t, err)
	h := &sinkhole{}
	conn, err := s.cfg.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	made := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot('walpurge_test', 'pgoutput')")
		made <- err
	}()
	_, err = tx.Exec(t.Context(), "SELECT pg_sleep(1)")
	require.NoError(t, err)
	require.Empty(t, made, "it waits, for longer than the role's timeout")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-made)
	s.run(h, Streaming)
}

// TestPrintedStatementsRunInAnySession: psql has the settings of its user, not ours.
func TestPrintedStatementsRunInAnySession(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	steps, _, err := s.cfg.Setup(t.Context(), s.conn, s.watch())
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(JoinSteps(steps), "CREATE PUBLICATION"), "nothing is set where there is no need")
	s.exec(`CREATE TABLE public.pg_replication_slots (slot_name text); CREATE TABLE "größe" (id int PRIMARY KEY);
		ALTER DATABASE postgres SET search_path = public, pg_catalog; ALTER ROLE postgres SET default_transaction_read_only = on;
		ALTER ROLE postgres SET statement_timeout = '300ms'; ALTER ROLE postgres SET standard_conforming_strings = off`)
	conn, err := s.cfg.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	w := Watch{Tables: public("items", "größe")}
	steps, _, err = s.cfg.Setup(t.Context(), conn, w)
	require.NoError(t, err)
	s.psql(JoinSteps(steps))
	require.NoError(t, s.cfg.Ready(t.Context(), conn, w.Tables, w))
	again, _, err := s.cfg.Setup(t.Context(), conn, w)
	require.NoError(t, err)
	require.Empty(t, again)
}
