package dashboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/load"
	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

// What seed.sql has.
const (
	accounts = 200
	users    = 2000
)

// The endpoints.
const (
	preferences = "preferences"
	summary     = "summary"
	live        = "live"
)

// popular draws a number from 1 to n: a tenth of them gets half of the requests.
func popular(r *rand.Rand, n int) int { return 1 + int(float64(n)*math.Pow(r.Float64(), 3.3)) }

// next makes a user's request: a third of them are for preferences, nearly half for a summary, the rest
// for live data.
func next(r *rand.Rand, site string) load.Request {
	get := func(endpoint, format string, id int) load.Request {
		return load.Request{Endpoint: endpoint, Method: http.MethodGet, URL: site + fmt.Sprintf(format, id)}
	}
	switch n := r.IntN(100); {
	case n < 35:
		return get(preferences, "/users/%d/preferences", popular(r, users))
	case n < 80:
		return get(summary, "/accounts/%d/summary", popular(r, accounts))
	}
	return get(live, "/accounts/%d/live", popular(r, accounts))
}

// change is a write: a request to the application and the same by SQL, and the rows whose versions tell
// what became of it.
type change struct {
	method, path, body string
	sql                string
	args               []any
	// user and account have these rows.
	user, account int
}

// draw makes a change. Preferences and orders change most.
func draw(r *rand.Rand) change {
	user, account := popular(r, users), popular(r, accounts)
	switch n := r.IntN(100); {
	case n < 40:
		theme := [...]string{"dark", "light"}[r.IntN(2)]
		return savePreferences(user, theme)
	case n < 70:
		cents := 500 + r.IntN(9500)
		return change{
			http.MethodPost, fmt.Sprintf("/accounts/%d/orders", account), fmt.Sprintf(`{"amount_cents": %d}`, cents),
			"INSERT INTO orders (account_id, placed_on, amount_cents) VALUES ($1, current_date, $2)", []any{account, cents}, user, account,
		}
	case n < 90:
		return change{
			http.MethodPost, fmt.Sprintf("/accounts/%d/payments", account), "",
			"UPDATE orders SET status = 'paid' WHERE id = (SELECT min(id) FROM orders WHERE account_id = $1 AND status = 'open')", []any{account}, user, account,
		}
	case n < 95:
		name := fmt.Sprintf("Account %d, %08x", account, r.Uint32())
		return change{
			http.MethodPut, fmt.Sprintf("/accounts/%d/name", account), fmt.Sprintf(`{"name": %q}`, name),
			"UPDATE accounts SET name = $2 WHERE id = $1", []any{account, name}, user, account,
		}
	default:
		online := r.IntN(100)
		return change{
			http.MethodPut, fmt.Sprintf("/accounts/%d/presence", account), fmt.Sprintf(`{"online": %d}`, online),
			"UPDATE presence SET online = $2 WHERE account_id = $1", []any{account, online}, user, account,
		}
	}
}

func savePreferences(user int, theme string) change {
	return change{
		http.MethodPut, fmt.Sprintf("/users/%d/preferences", user), fmt.Sprintf(`{"theme": %q, "widgets": ["revenue", "orders"]}`, theme),
		`INSERT INTO preferences (user_id, theme, widgets) VALUES ($1, $2, '["revenue", "orders"]')
			ON CONFLICT (user_id) DO UPDATE SET theme = EXCLUDED.theme, widgets = EXCLUDED.widgets`,
		[]any{user, theme}, user, (user-1)/(users/accounts) + 1,
	}
}

// Write changes a row through the application, or with bypass by SQL.
func (s *system) Write(ctx context.Context, r *rand.Rand, bypass bool) ([]oracle.Commit, error) {
	c := draw(r)
	if bypass {
		return s.bySQL(ctx, c)
	}
	return s.byApplication(ctx, c)
}

// byApplication sends a change to the application, and reads what became of it from the database if the
// answer is lost.
func (s *system) byApplication(ctx context.Context, c change) ([]oracle.Commit, error) {
	header, _, err := s.call(ctx, c.method, c.path, c.body)
	if err == nil {
		return scenario.Commits(header)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return s.committed(ctx, c)
}

// call asks the application.
func (s *system) call(ctx context.Context, method, path, body string) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return resp.Header, answer, err
}

// bySQL makes a change as a person at psql does.
func (s *system) bySQL(ctx context.Context, c change) (out []oracle.Commit, err error) {
	conn, err := pgx.Connect(ctx, s.env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, c.sql, c.args...); err != nil {
		return nil, err
	}
	return versions(ctx, conn, c)
}

// committed reads the versions that a change may have written.
func (s *system) committed(ctx context.Context, c change) (out []oracle.Commit, err error) {
	conn, err := pgx.Connect(ctx, s.env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return versions(ctx, conn, c)
}

// versions reads the versions of a change's rows. Their time is when they had been read, so rows that the
// change did not touch get a time that is too late and are not accused.
func versions(ctx context.Context, conn *pgx.Conn, c change) ([]oracle.Commit, error) {
	rows, err := conn.Query(ctx, `SELECT 'preferences:' || user_id, version FROM preferences WHERE user_id = $1
		UNION ALL SELECT 'orders:' || account_id, version FROM books WHERE account_id = $2
		UNION ALL SELECT 'account:' || id, version FROM accounts WHERE id = $2
		UNION ALL SELECT 'presence:' || account_id, version FROM presence WHERE account_id = $2`, c.user, c.account)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v oracle.Version, err error) {
		return v, row.Scan(&v.Row, &v.Version)
	})
	at := time.Now()
	out := make([]oracle.Commit, len(found))
	for i, v := range found {
		out[i] = oracle.Commit{Version: v, At: at}
	}
	return out, err
}
