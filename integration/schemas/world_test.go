package schemas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const (
	// sink is the name of the only one, and publication that of the publication in each database, which
	// a script may create itself.
	sink, publication = "cache", "published"
	// gid in a statement is the name of a prepared transaction, which is unique among all databases.
	gid = "GID"
	// hang ends what would wait for ever.
	hang = 2 * time.Minute
)

var errHangs = errors.New("nothing happens any more")

// world is two databases that see the same statements, one of them with walpurge.
type world struct {
	t            *testing.T
	major        int
	cfg          postgres.Config
	app, control *pgx.Conn
	// other and otherControl are other sessions of both.
	other, otherControl *pgx.Conn
}

// newServer starts the server that all worlds share.
func newServer(t *testing.T) *harness.Postgres {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{Settings: map[string]string{"max_prepared_transactions": "20"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	return pg
}

func newWorld(t *testing.T, pg *harness.Postgres, name string) *world {
	t.Helper()
	w := &world{t: t, cfg: postgres.DefaultConfig(name)}
	w.cfg.Heartbeat, w.cfg.Publication = time.Hour, publication
	connect := func(db string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), pg.URL(db))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	for _, db := range []string{name, name + "_control"} {
		require.NoError(t, pg.Exec(t.Context(), "postgres", "CREATE DATABASE "+db))
		require.NoError(t, pg.Exec(t.Context(), db, "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION file_fdw SCHEMA ext; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; "+
			"ALTER DATABASE "+db+" SET search_path = public, ext; ALTER DATABASE "+db+" SET lock_timeout = '10s'"))
	}
	w.app, w.control = connect(name), connect(name+"_control")
	w.other, w.otherControl = connect(name), connect(name+"_control")
	w.cfg.URL = pg.URL(name)
	var version int
	require.NoError(t, w.app.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&version))
	w.major = version
	return w
}

// clear removes what a script has left behind.
func (w *world) clear(ctx context.Context) error {
	// The server notices a little later that a connection has been closed.
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := w.cfg.Drop(ctx, w.app)
		if err == nil {
			break
		}
		if time.Since(began) > hang {
			return err
		}
	}
	for _, conn := range []*pgx.Conn{w.other, w.otherControl} {
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
	}
	for _, conn := range []*pgx.Conn{w.app, w.control} {
		if err := rollbackPrepared(ctx, conn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `DROP PUBLICATION IF EXISTS `+publication+`; DO $$ DECLARE s name; BEGIN
			FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('ext', 'information_schema')
			LOOP EXECUTE format('DROP SCHEMA %I CASCADE', s); END LOOP; END $$; CREATE SCHEMA public`)
		if err != nil {
			return err
		}
	}
	return nil
}

// rollbackPrepared rolls back the prepared transactions of the database.
func rollbackPrepared(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		if err == nil {
			_, err = conn.Exec(ctx, "ROLLBACK PREPARED '"+name+"'")
		}
	}
	return err
}

// verdict is what came of a script.
type verdict struct {
	// failure says what went wrong, empty if nothing did.
	failure string
	// refused is the error with which the daemon refused to start.
	refused error
	// changed counts keys whose answer changed, stale the steps after which a table had a problem,
	// failed the statements that failed everywhere.
	changed, stale, failed int
	// excused are keys that were not purged, after a step, because their table had a problem.
	excused int
	log     string
}

// lines keeps the daemon's log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// debt is a key whose answer has changed and that is not purged yet. A purge of a position after
// due.at covers it, and so does one that waits for the end of a transaction in due.open.
type debt struct {
	place, rule, key string
}

type due struct {
	at      cdc.LSN
	open    []uint64
	was, is *answer
	change  string
}

func parse(text string) (*rules.Set, error) {
	return rules.Parse("rules.yaml", []byte(text), rules.Options{Sinks: []rules.SinkSpec{{Name: sink, Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPrefix, invalidation.KeyPattern)}}})
}

// run tries a script.
func (w *world) run(s *script) (v verdict) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), hang, errHangs)
	defer cancel()
	set, err := parse(s.rules(nil))
	if err != nil {
		return verdict{failure: err.Error()}
	}
	if err := w.clear(ctx); err != nil {
		return verdict{failure: "clear: " + err.Error()}
	}
	r := &trial{world: w, script: s, set: set, stream: &stream{}, log: &lines{}, debts: make(map[debt]due), lost: make(map[string]bool), answers: make(map[string]*answer), killed: -1}
	defer func() {
		if r.pipeline != nil {
			if err := r.pipeline.end(); err != nil && v.failure == "" {
				v.failure = "the daemon ended: " + err.Error()
			}
		}
		if err := errors.Join(rollbackPrepared(ctx, w.app), rollbackPrepared(ctx, w.control)); err != nil && v.failure == "" {
			v.failure = "the end of prepared transactions: " + err.Error()
		}
		v.changed, v.stale, v.failed, v.excused, v.log = r.changed, r.stale, r.failed, r.excused, r.log.String()
	}()
	for _, sql := range s.setup {
		if out := w.both(ctx, sql); out.app != out.control {
			return verdict{failure: fmt.Sprintf("setup differs: %s\n%s\n%s", sql, out.app, out.control)}
		}
	}
	if v.refused = r.start(); v.refused != nil {
		return v
	}
	for _, x := range s.watch {
		if r.answers[x.place()], err = w.ask(ctx, x); err != nil && x.pattern != "" {
			r.answers[x.place()] = &answer{} // the table comes later
		} else if err != nil {
			v.failure = "first answer: " + err.Error()
			return v
		}
	}
	if v.failure = r.settle(ctx, r.stream.len()); v.failure != "" {
		return v
	}
	for i, st := range append(slices.Clone(s.steps), step{kind: start}) {
		if v.failure = r.step(ctx, st); v.failure != "" {
			v.failure = fmt.Sprintf("step %d: %s", i, v.failure)
			return v
		}
	}
	return v
}

// trial is a script at work.
type trial struct {
	*world
	script   *script
	set      *rules.Set
	stream   *stream
	log      *lines
	pipeline *pipeline
	// answers are what the queries behind the keys of each rule answered last, and debts the keys
	// whose answer has changed since they were purged, with the change.
	answers map[string]*answer
	debts   map[debt]due
	// lost are the rules whose query fails.
	lost  map[string]bool
	marks int
	// names are the rules in service, nil for all.
	names []string
	// killed is how many batches there were before the daemon was killed, -1 if it has started since.
	killed int

	changed, stale, failed, excused int
}

func (r *trial) start() (err error) {
	r.pipeline, err = newPipeline(r.cfg, r.set, r.stream, r.log)
	return err
}

func (r *trial) step(ctx context.Context, st step) string {
	switch st.kind {
	case stop:
		if r.pipeline == nil {
			return ""
		}
		err := r.pipeline.end()
		r.pipeline = nil
		if err != nil {
			return "the daemon ended: " + err.Error()
		}
		return ""
	case kill:
		return r.kill(ctx, st.sql)
	case reload:
		return r.reload(ctx, st)
	case start:
		before := r.stream.len()
		if r.pipeline == nil {
			if err := r.start(); errors.Is(err, errHangs) {
				return "the daemon does not start: " + err.Error()
			} else if err != nil {
				return "" // it says why, and is started again later
			}
		}
		if r.killed >= 0 {
			before, r.killed = r.killed, -1
		}
		return r.settle(ctx, before)
	}
	before := r.stream.len()
	var problems []postgres.Problem
	if r.pipeline != nil {
		problems, _ = r.pipeline.Problems()
	}
	for _, sql := range st.sql {
		if failure, over := r.execute(ctx, sql, len(problems) > 0); over {
			return failure
		}
	}
	return r.settle(ctx, before)
}

// serves reports whether the rule is in service.
func (r *trial) serves(x watch) bool { return r.names == nil || slices.Contains(r.names, x.name) }

// reload executes statements and replaces the rules at once. What a rule purges counts from then on.
func (r *trial) reload(ctx context.Context, st step) string {
	before := r.stream.len()
	if r.pipeline == nil {
		return ""
	}
	problems, _ := r.pipeline.Problems()
	for _, sql := range st.sql {
		if failure, over := r.execute(ctx, sql, len(problems) > 0); over {
			return failure
		}
	}
	set, err := parse(r.script.rules(st.rules))
	if err != nil {
		return err.Error()
	}
	if err := r.pipeline.reload(ctx, set); ctx.Err() != nil {
		return "the reload does not end: " + err.Error()
	} else if err != nil {
		return r.settle(ctx, before) // it says why, and the old rules stay
	}
	was := r.names
	r.set, r.names = set, st.rules
	for _, x := range r.script.watch {
		switch {
		case !r.serves(x):
			delete(r.lost, x.place())
			maps.DeleteFunc(r.debts, func(d debt, _ due) bool { return d.place == x.place() })
		case was != nil && !slices.Contains(was, x.name):
			now, err := r.ask(ctx, x)
			if err != nil {
				r.lost[x.place()] = x.pattern == ""
				now = &answer{}
			}
			r.answers[x.place()] = now
		}
	}
	return r.settle(ctx, before)
}

// kill executes statements, in the middle of which the daemon is killed.
func (r *trial) kill(ctx context.Context, sql []string) (failure string) {
	var problems []postgres.Problem
	if r.pipeline != nil {
		problems, _ = r.pipeline.Problems()
		r.killed = r.stream.len()
	}
	for i, one := range sql {
		r.stream.die(i >= len(sql)/2)
		over := false
		if failure, over = r.execute(ctx, one, len(problems) > 0); over {
			break
		}
	}
	r.stream.die(true)
	if r.pipeline != nil {
		_ = r.pipeline.end() // it fails to store
		r.pipeline = nil
	}
	r.stream.die(false)
	return failure
}

// execute runs a statement in both databases, and asks what it changed. A failure, or a limit that the
// status names, ends the step.
func (r *trial) execute(ctx context.Context, sql string, problems bool) (failure string, over bool) {
	at, open := end(ctx, r.app)
	out := r.both(ctx, sql)
	switch {
	case out.app == out.control && strings.HasPrefix(out.app, "ERROR"):
		r.failed++
	case out.app == out.control:
	case strings.Contains(out.app, "does not have a replica identity") && problems:
		return "", true // a limit that the status names
	default:
		return fmt.Sprintf("%s\nwith walpurge: %s\nwithout: %s", sql, out.app, out.control), true
	}
	if err := r.look(ctx, sql, at, open); err != nil {
		return err.Error(), true
	}
	return "", false
}

// end is where the log ends, and which transactions are open there.
func end(ctx context.Context, conn *pgx.Conn) (at cdc.LSN, open []uint64) {
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text, ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(pg_current_snapshot()) x)").Scan(&text, &open); err != nil {
		return 0, nil
	}
	at, _ = cdc.ParseLSN(text)
	return at, open
}

// look asks the queries behind the keys, after a statement that began when the log ended at a position.
func (r *trial) look(ctx context.Context, sql string, at cdc.LSN, open []uint64) error {
	for _, x := range r.script.watch {
		if !r.serves(x) {
			continue
		}
		now, err := r.ask(ctx, x)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			r.lost[x.place()] = x.pattern == "" // a pattern needs no table
			continue
		}
		delete(r.lost, x.place())
		for key, change := range r.answers[x.place()].changes(now, x.reads) {
			if x.updates && (!strings.HasPrefix(sql, "UPDATE ") || len(r.answers[x.place()].rows[key]) == 0 || len(now.rows[key]) == 0) {
				continue
			}
			r.changed++
			r.debts[debt{x.place(), x.name, key}] = due{at, open, r.answers[x.place()], now, fmt.Sprintf("%s, by %s", change, sql)}
		}
		r.answers[x.place()] = now
	}
	return nil
}

// settle waits for the next comparison and for what it announces, and judges what was published
// from the nth batch on.
func (r *trial) settle(ctx context.Context, n int) string {
	if r.pipeline == nil {
		return ""
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.pipeline.ended, func() { cancel(fmt.Errorf("the daemon ended: %w", context.Cause(r.pipeline.ended))) })()
	if _, err := r.pipeline.Compare(ctx); err != nil {
		return "the comparison does not end: " + err.Error()
	}
	r.marks++
	mark := fmt.Sprint(r.marks)
	if _, err := r.app.Exec(ctx, "SELECT pg_logical_emit_message(true, $1, $2)", markPrefix, mark); err != nil {
		return err.Error()
	}
	if err := r.pipeline.line.reach(ctx, mark); err != nil {
		return "the stream stands still: " + err.Error()
	}
	for i, b := range r.stream.since(0) {
		for d, due := range r.debts {
			waits := slices.ContainsFunc(b.Stamp.XIDs, func(xid uint64) bool { return slices.Contains(due.open, xid) })
			if (i >= n && b.Stamp.Position.LSN > due.at || waits) && covers(b, d.rule, d.key) {
				delete(r.debts, d)
			}
		}
	}
	problems, _ := r.pipeline.Problems()
	if len(problems) > 0 {
		r.stale++
	}
	for _, x := range r.script.watch {
		if r.lost[x.place()] && !named(problems, x.table) {
			return fmt.Sprintf("the query of rule %s fails, and no problem names %s: %v", x.name, x.table, texts(problems))
		}
	}
	for _, d := range slices.SortedFunc(maps.Keys(r.debts), func(a, b debt) int { return strings.Compare(a.place+a.key, b.place+b.key) }) {
		i := slices.IndexFunc(r.script.watch, func(x watch) bool { return x.place() == d.place })
		x, due := r.script.watch[i], r.debts[d]
		if due.was.change(due.is, r.answers[d.place], d.key, x.reads) == "" {
			continue // in columns that are gone by now
		}
		if !named(problems, x.table) {
			return fmt.Sprintf("%s is not purged, and no problem names %s: %s\nproblems: %v", d.key, x.table, due.change, texts(problems))
		}
		r.excused++
	}
	return ""
}

// named reports whether a problem that makes the status STALE names the table.
func named(problems []postgres.Problem, t cdc.Table) bool {
	return slices.ContainsFunc(problems, func(p postgres.Problem) bool {
		return !p.Covered && (len(p.Tables) == 0 || slices.Contains(p.Tables, t))
	})
}

func texts(problems []postgres.Problem) (out []string) {
	for _, p := range problems {
		out = append(out, p.Text)
	}
	return out
}

// outcomes are what a statement did in both databases.
type outcomes struct{ app, control string }

func (w *world) both(ctx context.Context, sql string) outcomes {
	text, open := strings.CutPrefix(sql, other)
	app, control := w.app, w.control
	if open {
		app, control = w.other, w.otherControl
	}
	in := func(conn *pgx.Conn, name string) string {
		return strings.ReplaceAll(outcome(ctx, conn.PgConn(), strings.ReplaceAll(text, gid, "'"+name+"'"), open), name, gid)
	}
	return outcomes{in(app, "of "+w.cfg.Slot), in(control, "beside "+w.cfg.Slot)}
}

// outcome runs statements, and ends a transaction that they leave open, unless it is to stay open and has
// not failed.
func outcome(ctx context.Context, conn *pgconn.PgConn, sql string, open bool) string {
	var err error
	var tags []string
	if head, data, copies := strings.Cut(sql, "\n"); copies && strings.HasPrefix(head, "COPY ") {
		var tag pgconn.CommandTag
		tag, err = conn.CopyFrom(ctx, strings.NewReader(data), head)
		tags = append(tags, tag.String())
	} else {
		var results []*pgconn.Result
		results, err = conn.Exec(ctx, sql).ReadAll()
		for _, r := range results {
			tags = append(tags, r.CommandTag.String())
		}
	}
	if status := conn.TxStatus(); status == 'E' || status == 'T' && !open {
		_, _ = conn.Exec(ctx, "ROLLBACK").ReadAll()
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		return "ERROR " + pg.Code + " " + pg.Message
	case err != nil:
		return "ERROR " + err.Error()
	}
	return strings.Join(tags, ", ")
}
