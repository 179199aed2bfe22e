package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session gets its settings right after it has begun, so that nothing that ALTER ROLE, ALTER
// DATABASE or postgresql.conf set reaches it. They are not startup parameters: connection
// poolers refuse those that they do not know.

// firstSettings let the statement after them run. A standby refuses a snapshot to a serializable
// transaction, and SET takes none.
const firstSettings = `SET statement_timeout = 0; SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off`

// settings are set as far as the server knows them: idle_session_timeout exists from PostgreSQL
// 14 on, transaction_timeout from 17 on, restrict_nonsystem_relation_kind in minor releases from
// August 2024 on.
var settings = [][2]string{
	// The server neither ends a session nor cuts it short: callers have deadlines of their own.
	{"lock_timeout", "0"}, {"idle_in_transaction_session_timeout", "0"}, {"idle_session_timeout", "0"}, {"transaction_timeout", "0"}, {"exit_on_error", "off"},
	// Statements may change the catalog, and see every row that they may see, or fail.
	{"default_transaction_read_only", "off"}, {"row_security", "off"}, {"restrict_nonsystem_relation_kind", ""},
	// Statements mean the same everywhere.
	{"search_path", "pg_catalog"}, {"standard_conforming_strings", "on"}, {"backslash_quote", "safe_encoding"}, {"transform_null_equals", "off"},
	{"array_nulls", "on"}, {"xmloption", "content"}, {"quote_all_identifiers", "off"}, {"client_min_messages", "warning"},
	{"plan_cache_mode", "auto"}, {"jit", "off"},
	// Values have the same text everywhere; a walsender writes rows under the settings of its session.
	{"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"}, {"extra_float_digits", "1"},
	{"bytea_output", "hex"}, {"xmlbinary", "base64"}, {"lc_monetary", "C"},
}

// applySettings is one statement for all settings, in this transaction only or in the session.
// Their names and values need no quoting.
func applySettings(local bool) string {
	rows := make([]string, len(settings))
	for i, s := range settings {
		rows[i] = fmt.Sprintf("('%s', '%s')", s[0], s[1])
	}
	return fmt.Sprintf("SELECT pg_catalog.set_config(name, value, %t) FROM (VALUES %s) s (name, value) WHERE pg_catalog.current_setting(name, true) IS NOT NULL",
		local, strings.Join(rows, ", "))
}

// senderTimeout is how soon the server gives up on a reader that went silent,
// and with it how soon a standby can take over the slot.
const senderTimeout = "10s"

// prepareSession gives a new session its settings. It works on a walsender, too, which has no
// extended protocol.
func prepareSession(ctx context.Context, conn *pgconn.PgConn) error {
	encoding := "SET client_encoding = '" + clientEncoding(conn.ParameterStatus("server_encoding")) + "'"
	for _, sql := range []string{firstSettings, encoding, applySettings(false)} {
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("prepare the session: %w", err)
		}
	}
	return nil
}

var errNoPrimary = errors.New("the server is in recovery, so it is a standby and not the primary")

// validatePrimary prepares a session and makes sure that it is one of the primary: a server
// that is not in recovery. Whether transactions are read-only by default says nothing of that.
func validatePrimary(ctx context.Context, conn *pgconn.PgConn) error {
	if err := prepareSession(ctx, conn); err != nil {
		return err
	}
	results, err := conn.Exec(ctx, "SELECT pg_catalog.pg_is_in_recovery()").ReadAll()
	if err != nil {
		return fmt.Errorf("ask whether the server is the primary: %w", err)
	}
	if string(results[0].Rows[0][0]) != "f" {
		return errNoPrimary
	}
	return nil
}

// userPath is the search_path of SQL that the user wrote: the default of PostgreSQL, unless the
// connection string has one among its options.
func userPath(cfg *pgx.ConnConfig) string {
	if strings.Contains(cfg.RuntimeParams["options"], "search_path") {
		return "search_path TO DEFAULT"
	}
	return `search_path TO "$user", public`
}

// settingsQuery are those of some settings that sessions of this database, or of some role, begin
// with and that are not the default of PostgreSQL. reset_val is from the start of this session.
const settingsQuery = `SELECT s.name FROM pg_catalog.pg_settings s
WHERE s.name = ANY ($1) AND (s.reset_val IS DISTINCT FROM s.boot_val OR EXISTS (
  SELECT FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) c
  WHERE d.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) AND pg_catalog.split_part(c, '=', 1) = s.name))
ORDER BY s.name`

// ownSettings is a step for statements that a DBA runs in a session of their own: it sets what
// would refuse them, end them or change what they mean. Without such settings it returns no step.
func ownSettings(ctx context.Context, conn *pgx.Conn, steps []Step) ([]Step, error) {
	matter := map[string]string{
		"default_transaction_read_only": "off", "statement_timeout": "0", "lock_timeout": "0", "transaction_timeout": "0",
		"search_path": "pg_catalog", "standard_conforming_strings": "on",
	}
	rows, err := conn.Query(ctx, settingsQuery, slices.Collect(maps.Keys(matter)))
	if err != nil {
		return nil, fmt.Errorf("read the settings of roles and database: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the settings of roles and database: %w", err)
	}
	var out []Step
	for _, name := range names {
		out = append(out, Step{SQL: "SET " + name + " = " + matter[name]})
	}
	if slices.ContainsFunc(steps, func(s Step) bool {
		return strings.ContainsFunc(s.Script(), func(r rune) bool { return r > unicode.MaxASCII })
	}) {
		out = append(out, Step{SQL: "SET client_encoding = 'UTF8'"})
	}
	return out, nil
}
