package storefront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

// change is a change of a row that the back office or the import makes.
type change struct {
	path, body string
	// The rows whose versions are read where the answer was lost.
	merchant, product int
}

// draw makes a change: most of them are prices, a fifth are ranks, which give listings another order,
// and a few are names of merchants.
func draw(r *rand.Rand) change {
	merchant := popular(r, merchants)
	id := productOf(r, merchant)
	switch kind := r.Float64(); {
	case kind < 0.02:
		return change{fmt.Sprintf("/admin/merchants/%d", merchant), fmt.Sprintf(`{"name": "Merchant %d, %08x"}`, merchant, r.Uint32()), merchant, 0}
	case kind < 0.2:
		return change{fmt.Sprintf("/admin/products/%d", id), fmt.Sprintf(`{"rank": %d}`, r.IntN(1_000_000)), merchant, id}
	}
	return change{fmt.Sprintf("/admin/products/%d", id), fmt.Sprintf(`{"price_cents": %d}`, 100+r.IntN(1_000_000)), merchant, id}
}

// Write changes a row through the back office, or with bypass by SQL: as a person at psql does, or as
// the nightly import, which writes all products of a merchant and changes a few.
func (s *system) Write(ctx context.Context, r *rand.Rand, bypass bool) ([]oracle.Commit, error) {
	if !bypass {
		return s.backOffice(ctx, draw(r))
	}
	merchant := popular(r, merchants)
	if r.Float64() < 0.5 {
		return s.bySQL(ctx, "UPDATE products SET price_cents = $2 WHERE merchant_id = $1 AND id = $3 RETURNING id, version",
			merchant, 100+r.IntN(1_000_000), productOf(r, merchant))
	}
	return s.bySQL(ctx, `UPDATE products SET price_cents = CASE WHEN id % 10 = $2 THEN price_cents + 1 ELSE price_cents END
		WHERE merchant_id = $1 RETURNING id, version`, merchant, 2*r.IntN(5)+(merchant+1)%2)
}

// backOffice sends a change to the application, and reads what became of it from the database if the
// answer is lost.
func (s *system) backOffice(ctx context.Context, c change) ([]oracle.Commit, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.origin+c.path, bytes.NewReader([]byte(c.body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return s.committed(ctx, c)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	switch {
	case resp.StatusCode == http.StatusOK:
		return scenario.Commits(resp.Header)
	case resp.StatusCode >= 500:
		return s.committed(ctx, c)
	}
	return nil, fmt.Errorf("PUT %s: %s", c.path, resp.Status)
}

// committed reads the versions that a change may have written.
func (s *system) committed(ctx context.Context, c change) (out []oracle.Commit, err error) {
	conn, err := pgx.Connect(ctx, s.env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return versions(ctx, conn, `SELECT 'merchant:' || id, version FROM merchants WHERE id = $1
		UNION ALL SELECT 'product:' || id, version FROM products WHERE id = $2
		UNION ALL SELECT 'listing:' || merchant_id || ':' || category_id, version FROM listings WHERE merchant_id = $1`, c.merchant, c.product)
}

// bySQL changes products by a statement that returns their ids and versions.
func (s *system) bySQL(ctx context.Context, sql string, args ...any) (out []oracle.Commit, err error) {
	conn, err := pgx.Connect(ctx, s.env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return versions(ctx, conn, "WITH written AS ("+sql+") SELECT 'product:' || id, version FROM written", args...)
}

// versions runs a statement that returns names of rows and their versions. The time of all of them is
// when it had returned, so rows that it did not change get a time that is too late and are not accused.
func versions(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]oracle.Commit, error) {
	rows, err := conn.Query(ctx, sql, args...)
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
