package standbynames

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

const walpurge = "walpurge"

var cases = []struct {
	setting        string
	valid, matches bool
}{
	{"", true, false},
	{"*", true, true},
	{`"*"`, true, true},
	{" \t* ", true, true},
	{"a, *", true, true},
	{"walpurge", true, true},
	{"WalPurge", true, true},
	{`"Walpurge"`, true, true},
	{`"walpurge "`, true, false},
	{`"wal""purge"`, true, false},
	{"walpurge2", true, false},
	{"walpurg", true, false},
	{"wal$purge, _a1", true, false},
	{"größe", true, false},
	{"a,b,walpurge", true, true},
	{"a,b", true, false},
	{"1", true, false},
	{"1, 2", true, false},
	{"2 (a, walpurge)", true, true},
	{"2(a,b)", true, false},
	{"1 (*)", true, true},
	{"FIRST 1 (walpurge)", true, true},
	{"first 2 (a, b)", true, false},
	{"fIrSt 2 (a, *)", true, true},
	{"ANY 1 (*)", true, true},
	{"any 1(walpurge,b)", true, true},
	{"ANY\t2\f(a,\vb)", true, false},
	{`ANY 1 ("any", "first")`, true, false},
	{`"any"`, true, false},
	{"anyone, firstborn", true, false},
	{"any$", true, false},
	{"001 (walpurge)", true, true},
	{"4294967297 (walpurge)", true, true}, // as C's atoi reads it

	{" ", false, false},
	{"any", false, false},
	{"first", false, false},
	{"any, walpurge", false, false},
	{"ANY (walpurge)", false, false},
	{"FIRST walpurge", false, false},
	{"0 (walpurge)", false, false},
	{"ANY 0 (*)", false, false},
	{"4294967296 (walpurge)", false, false},
	{"99999999999999999999 (walpurge)", false, false},
	{"ANY 1 ()", false, false},
	{"ANY 1 (walpurge", false, false},
	{"ANY 1 (walpurge))", false, false},
	{"ANY 1 walpurge", false, false},
	{"(walpurge)", false, false},
	{"walpurge,", false, false},
	{",walpurge", false, false},
	{"walpurge b", false, false},
	{"1walpurge", false, false},
	{"wal-purge", false, false},
	{`"walpurge`, false, false},
	{`'walpurge'`, false, false},
	{"**", false, false},
	{"* (a)", false, false},
	{"-1 (walpurge)", false, false},
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		matches, err := Match(c.setting, walpurge)
		require.Equal(t, c.valid, err == nil, "%q: %v", c.setting, err)
		require.Equal(t, c.matches, matches, "%q", c.setting)
	}
}

// TestMatchAgreesWithPostgreSQL: the server accepts the same values, and gives a connection of
// that name a priority for the same ones.
func TestMatchAgreesWithPostgreSQL(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	conn, err := pgx.Connect(ctx, pg.URL("postgres"))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, "SET synchronous_commit = local")
	require.NoError(t, err)

	// A standby that never reports more than the first byte of the log counts, and releases no commit.
	standby, err := pgconn.Connect(ctx, pg.URL("postgres")+"&replication=true&application_name="+walpurge)
	require.NoError(t, err)
	defer standby.Close(context.Background())
	var start string
	require.NoError(t, conn.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&start))
	standby.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + start})
	require.NoError(t, standby.Frontend().Flush())
	for began := false; !began; {
		message, err := standby.ReceiveMessage(ctx)
		require.NoError(t, err)
		_, began = message.(*pgproto3.CopyBothResponse)
	}
	update := make([]byte, 34)
	update[0] = 'r'
	for i := range 3 {
		binary.BigEndian.PutUint64(update[1+8*i:], 1)
	}
	report := func() {
		standby.Frontend().Send(&pgproto3.CopyData{Data: update})
		require.NoError(t, standby.Frontend().Flush())
	}
	report()

	set := func(setting string) error {
		_, err := conn.Exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+strings.ReplaceAll(setting, "'", "''")+"'")
		return err
	}
	reload := func(setting string, named bool) {
		_, err := conn.Exec(ctx, "SELECT pg_reload_conf()")
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			report()
			var is bool
			require.NoError(t, conn.QueryRow(ctx, "SELECT sync_priority > 0 FROM pg_stat_replication").Scan(&is))
			return is == named
		}, 2*time.Minute, 5*time.Millisecond, "%q", setting)
	}
	for _, c := range cases {
		if c.valid {
			// The change is seen from the opposite.
			opposite := map[bool]string{true: "nobody", false: "*"}[c.matches]
			require.NoError(t, set(opposite))
			reload(opposite, !c.matches)
		}
		err := set(c.setting)
		require.Equal(t, c.valid, err == nil, "%q: %v", c.setting, err)
		if c.valid {
			reload(c.setting, c.matches)
		}
	}
}
