package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cmd/plural"
)

// change is one thing that happens in the shop, and the copies that it makes
// untrue.
type change struct {
	sql   string
	args  []any
	sinks []string
	keys  []string
	paths []string
}

// changes makes the n-th change.
func changes(n int) change {
	id := 1 + n*7%90
	if id%10 == 0 {
		id++ // every tenth product is a draft, which no rule watches
	}
	both := []string{"cache", "edge"}
	slug := fmt.Sprintf("product-%d", id)
	switch n % 5 {
	case 1:
		store := 1 + n%4
		return change{"UPDATE menu_items SET price_cents = price_cents + $1 WHERE store_id = $2", []any{10 + rand.IntN(90), store}, both,
			[]string{fmt.Sprintf("menu:%d", store)}, []string{fmt.Sprintf("/menu/%d", store)}}
	case 2:
		return change{"UPDATE products SET stock = stock + 1 WHERE id = $1", []any{id}, []string{"cache"}, []string{fmt.Sprintf("stock:%d", id)}, nil}
	case 3:
		c := 1 + n%3
		name := []string{"brooms", "cauldrons", "herbs"}[c-1]
		return change{"UPDATE categories SET name = $1 WHERE id = $2", []any{fmt.Sprintf("Season %d", n), c}, both,
			[]string{"category:slug:" + name}, []string{"/c/" + name}}
	}
	return change{"UPDATE products SET price_cents = price_cents + $1 WHERE id = $2", []any{10 + rand.IntN(90), id}, both,
		[]string{"product:slug:" + slug}, []string{"/p/" + slug}}
}

// play changes rows until the context ends.
func (d *demo) play(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.pg.URL("shop"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for n := 0; ; n++ {
		c := changes(n)
		if err := d.warm(ctx, c); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := d.one(ctx, conn, c); err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// one makes a change and follows it until the copies are gone, even if the time
// is up meanwhile.
func (d *demo) one(ctx context.Context, conn *pgx.Conn, c change) error {
	follow, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	xid, err := d.write(follow, conn, c)
	if err != nil {
		return err
	}
	d.stats.changes++
	fmt.Fprintf(d.cfg.Out, "%s\n", statement(c))
	purges, err := d.watch.wait(follow, xid, c.sinks)
	for _, p := range purges {
		d.stats.add(p)
		fmt.Fprintf(d.cfg.Out, "    %-5s  %-58s %7.2f ms\n", p.sink, strings.Join(p.values, " "), p.took.Seconds()*1000)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", statement(c), err)
	}
	if err := d.gone(follow, c); err != nil {
		return err
	}
	d.stats.purged++
	return nil
}

// warm makes both caches hold the copies.
func (d *demo) warm(ctx context.Context, c change) error {
	for _, path := range c.paths {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.site.URL()+path, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the shop answers %s with %s", path, resp.Status)
		}
	}
	if len(c.paths) == 0 {
		for _, key := range c.keys {
			if err := d.cache.Do(ctx, d.cache.B().Set().Key(key).Value("1").Build()).Error(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) write(ctx context.Context, conn *pgx.Conn, c change) (xid uint64, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, c.sql, c.args...); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text::bigint").Scan(&xid)
	})
	return xid, err
}

// gone makes sure that neither cache holds a copy any more. The edge takes its
// time after the answer, as the real one does.
func (d *demo) gone(ctx context.Context, c change) error {
	for _, key := range c.keys {
		n, err := d.cache.Do(ctx, d.cache.B().Exists().Key(key).Build()).AsInt64()
		if err != nil {
			return err
		}
		if n != 0 {
			return fmt.Errorf("%s: key %s is still in Valkey", statement(c), key)
		}
	}
	for _, path := range c.paths {
		for d.edge.Stored(d.site.URL() + path) {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s: page %s is still at the edge", statement(c), path)
			}
		}
	}
	return nil
}

// statement prints the SQL with its arguments.
func statement(c change) string {
	s := c.sql
	for i, a := range c.args {
		s = strings.ReplaceAll(s, fmt.Sprintf("$%d", i+1), fmt.Sprint(a))
	}
	return s
}

// stats are what the summary tells.
type stats struct {
	changes, purged int
	took            map[string][]time.Duration
}

func (s *stats) add(p purge) {
	if s.took == nil {
		s.took = make(map[string][]time.Duration)
	}
	s.took[p.sink] = append(s.took[p.sink], p.took)
}

// summary prints the outcome; it is an error if a change was not purged.
func (d *demo) summary() error {
	fmt.Fprintf(d.cfg.Out, "\n%s, %d purged everywhere\n", plural.Count(d.stats.changes, "change"), d.stats.purged)
	for _, sink := range []string{"cache", "edge"} {
		took := d.stats.took[sink]
		if len(took) == 0 {
			continue
		}
		slices.Sort(took)
		at := func(q float64) float64 { return took[min(len(took)-1, int(q*float64(len(took))))].Seconds() * 1000 }
		fmt.Fprintf(d.cfg.Out, "  commit to purged, %-5s  p50 %6.2f ms   p99 %6.2f ms   (%s)\n", sink, at(.5), at(.99), plural.Count(len(took), "purge"))
	}
	if d.stats.purged < d.stats.changes {
		return fmt.Errorf("%d of %d changes were not purged", d.stats.changes-d.stats.purged, d.stats.changes)
	}
	return nil
}
