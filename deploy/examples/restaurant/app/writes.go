package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// written is what a transaction has written: the versions of its rows, as row=version.
type written []string

func (w *written) add(row string, id, version int64) {
	*w = append(*w, row+":"+strconv.FormatInt(id, 10)+"="+strconv.FormatInt(version, 10))
}

// write answers a request that writes: it runs the transaction, deletes what that has made stale,
// and says which versions were written, and when COMMIT had returned.
func (a *app) write(do func(context.Context, pgx.Tx, *http.Request) (written, stale, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		wrote, s, at, err := a.commit(r, do)
		if err == nil {
			err = a.cache.forget(r.Context(), s)
		}
		if !at.IsZero() {
			w.Header().Set("Wrote", strings.Join(wrote, " "))
			w.Header().Set("Committed", strconv.FormatInt(at.UnixNano(), 10))
		}
		if err != nil {
			answer(w, err)
		}
	}
}

// commit runs a transaction, and returns when its COMMIT had returned.
func (a *app) commit(r *http.Request, do func(context.Context, pgx.Tx, *http.Request) (written, stale, error)) (wrote written, s stale, at time.Time, err error) {
	ctx := r.Context()
	tx, err := a.db.Begin(ctx)
	if err != nil {
		return nil, s, at, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if wrote, s, err = do(ctx, tx, r); err != nil {
		return nil, s, at, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, s, at, err
	}
	return wrote, s, time.Now(), nil
}

// placeOrder stores an order and its payment, and adds the points.
func (a *app) placeOrder(ctx context.Context, tx pgx.Tx, r *http.Request) (wrote written, s stale, err error) {
	store, err := number(r, "store")
	if err != nil {
		return nil, s, err
	}
	account, err := number(r, "account")
	if err != nil {
		return nil, s, err
	}
	const total = 1500
	var order, version int64
	if err := tx.QueryRow(ctx, "INSERT INTO orders (store_id, account_id, status, total_cents) VALUES ($1, $2, 'paid', $3) RETURNING id, version",
		store, account, total).Scan(&order, &version); err != nil {
		return nil, s, err
	}
	wrote.add("order", order, version)
	if _, err := tx.Exec(ctx, "INSERT INTO payments (order_id, amount_cents) VALUES ($1, $2)", order, total); err != nil {
		return nil, s, err
	}
	if err := tx.QueryRow(ctx, "UPDATE accounts SET points = points + 15 WHERE id = $1 RETURNING version", account).Scan(&version); err != nil {
		return nil, s, err
	}
	wrote.add("account", account, version)
	return wrote, stale{keys: []string{fmt.Sprintf("loyalty:%d", account)}}, nil
}

func (a *app) setPrice(ctx context.Context, tx pgx.Tx, r *http.Request) (wrote written, s stale, err error) {
	return a.changeItem(ctx, tx, r, "UPDATE menu_items SET price_cents = price_cents % 3000 + 10 WHERE id = $1 RETURNING store_id, version", false)
}

// toggleItem takes a dish from its menu, or puts it there again.
func (a *app) toggleItem(ctx context.Context, tx pgx.Tx, r *http.Request) (wrote written, s stale, err error) {
	return a.changeItem(ctx, tx, r, "UPDATE menu_items SET available = NOT available WHERE id = $1 RETURNING store_id, version", true)
}

func (a *app) changeItem(ctx context.Context, tx pgx.Tx, r *http.Request, sql string, list bool) (wrote written, s stale, err error) {
	id, err := number(r, "id")
	if err != nil {
		return nil, s, err
	}
	var store, version int64
	if err := tx.QueryRow(ctx, sql, id).Scan(&store, &version); err != nil {
		return nil, s, err
	}
	wrote.add("item", id, version)
	if list {
		if err := tx.QueryRow(ctx, "SELECT version FROM menus WHERE store_id = $1", store).Scan(&version); err != nil {
			return nil, s, err
		}
		wrote.add("menu", store, version)
	}
	return wrote, stale{keys: []string{fmt.Sprintf("menu:%d", store)}, tags: []string{fmt.Sprintf("menu-%d", store)}}, nil
}

func (a *app) setHours(ctx context.Context, tx pgx.Tx, r *http.Request) (wrote written, s stale, err error) {
	id, err := a.update(ctx, tx, r, "UPDATE stores SET opens = CASE opens WHEN '10:00' THEN '09:00' ELSE '10:00' END WHERE id = $1 RETURNING version", "store", &wrote)
	return wrote, stale{keys: []string{fmt.Sprintf("store:%d", id)}, tags: []string{fmt.Sprintf("store-%d", id)}}, err
}

func (a *app) addPoints(ctx context.Context, tx pgx.Tx, r *http.Request) (wrote written, s stale, err error) {
	id, err := a.update(ctx, tx, r, "UPDATE accounts SET points = points + 5 WHERE id = $1 RETURNING version", "account", &wrote)
	return wrote, stale{keys: []string{fmt.Sprintf("loyalty:%d", id)}}, err
}

func (a *app) setStatus(ctx context.Context, tx pgx.Tx, r *http.Request) (wrote written, s stale, err error) {
	id, err := a.update(ctx, tx, r, "UPDATE orders SET status = CASE status WHEN 'paid' THEN 'ready' ELSE 'paid' END WHERE id = $1 RETURNING version", "order", &wrote)
	return wrote, stale{keys: []string{fmt.Sprintf("order:%d", id)}}, err
}

// update changes the row of the id in the path.
func (a *app) update(ctx context.Context, tx pgx.Tx, r *http.Request, sql, row string, wrote *written) (int64, error) {
	id, err := number(r, "id")
	if err != nil {
		return 0, err
	}
	var version int64
	if err := tx.QueryRow(ctx, sql, id).Scan(&version); err != nil {
		return 0, err
	}
	wrote.add(row, id, version)
	return id, nil
}

// promotion lowers all prices in one transaction. The versions that it has written are in the body:
// they are too many for a header.
func (a *app) promotion(w http.ResponseWriter, r *http.Request) {
	var stores int64
	wrote, s, at, err := a.commit(r, func(ctx context.Context, tx pgx.Tx, _ *http.Request) (wrote written, s stale, err error) {
		rows, err := tx.Query(ctx, "UPDATE menu_items SET price_cents = price_cents - price_cents / 10 RETURNING id, store_id, version")
		if err != nil {
			return nil, s, err
		}
		var id, store, version int64
		_, err = pgx.ForEachRow(rows, []any{&id, &store, &version}, func() error {
			wrote.add("item", id, version)
			stores = max(stores, store)
			return nil
		})
		for store := range stores {
			s.keys = append(s.keys, fmt.Sprintf("menu:%d", store+1))
		}
		s.tags = []string{"menus"}
		return wrote, s, err
	})
	if err == nil {
		err = a.cache.forget(r.Context(), s)
	}
	if err != nil {
		answer(w, err)
		return
	}
	w.Header().Set("Committed", strconv.FormatInt(at.UnixNano(), 10))
	_, _ = fmt.Fprintln(w, strings.Join(wrote, " "))
}
