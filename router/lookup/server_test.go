package lookup

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const schema = `
CREATE TABLE menu_stores (menu_id int, store_id int, slug text, code char(4), at timestamptz, raw bytea, price numeric);
CREATE INDEX ON menu_stores (menu_id);
INSERT INTO menu_stores SELECT n / 3, n, 'S' || n, 'c', '2026-11-20 12:00:00+00', '\x01ff', 1.50 FROM generate_series(0, 299) n;
INSERT INTO menu_stores (menu_id, store_id) VALUES (1000, NULL);
`

// rig is a server and a resolver that asks it.
type rig struct {
	t        *testing.T
	pg       *harness.Postgres
	conn     *pgx.Conn
	resolver *Resolver
	connects atomic.Int64
	visible  error
	log      strings.Builder
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	require.NoError(t, pg.Exec(ctx, "postgres", schema))
	r := &rig{t: t, pg: pg}
	cfg := postgres.DefaultConfig("test")
	cfg.URL = pg.URL("postgres")
	r.conn, err = pgx.Connect(ctx, cfg.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.conn.Close(context.Background()) })
	r.resolver = New(Config{
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			r.connects.Add(1)
			return cfg.ConnectReading(ctx)
		},
		Visible: func(context.Context, cdc.Stamp) error { return r.visible },
		Logger:  slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	t.Cleanup(func() { r.resolver.Close(context.Background()) })
	return r
}

func (r *rig) exec(sql string) {
	r.t.Helper()
	_, err := r.conn.Exec(r.t.Context(), sql)
	require.NoError(r.t, err)
}

// lookup makes one as a rule would have it; values name the columns.
func lookup(t testing.TB, sql string, more string, columns ...string) *rules.Lookup {
	t.Helper()
	var args, keys []string
	for n := 1; strings.Contains(sql, fmt.Sprint("$", n)); n++ {
		args = append(args, fmt.Sprintf(`"{a%d}"`, n))
	}
	for _, c := range columns {
		keys = append(keys, fmt.Sprintf(`"k:{m.%s}"`, c))
	}
	text := fmt.Sprintf("rules:\n  - name: menu\n    table: public.t\n    keys: [%s]\n    unknown: {keys: [u]}\n    lookup:\n      m:\n        sql: %q\n        args: [%s]\n%s",
		strings.Join(keys, ", "), sql, strings.Join(args, ", "), more)
	set, err := rules.Parse("rules.yaml", []byte(text), rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}}})
	require.NoError(t, err, text)
	return set.Lookups()[0]
}

// ask puts one query per argument list.
func (r *rig) ask(l *rules.Lookup, args ...[]string) []rules.Answer {
	r.t.Helper()
	queries := make([]rules.Query, len(args))
	for i := range args {
		queries[i] = rules.Query{Lookup: l, Args: args[i]}
	}
	out := r.resolver.Resolve(r.t.Context(), cdc.Stamp{}, queries)
	require.Len(r.t, out, len(queries))
	return out
}

// texts are the rows of answers, or their errors.
func texts(answers []rules.Answer) []string {
	var out []string
	for _, a := range answers {
		if a.Err != nil {
			out = append(out, "error: "+a.Err.Error())
			continue
		}
		var rows []string
		for _, row := range a.Rows {
			var values []string
			for _, v := range row {
				if v.Kind == cdc.Null {
					values = append(values, "NULL")
					continue
				}
				values = append(values, string(v.Data))
			}
			rows = append(rows, strings.Join(values, "|"))
		}
		out = append(out, strings.Join(rows, " "))
	}
	return out
}
