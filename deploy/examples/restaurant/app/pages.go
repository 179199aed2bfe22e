package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type app struct {
	db    *pgxpool.Pool
	cache *cache
}

var errBadRequest = errors.New("not a number")

// source is where a page comes from, and how long its copies live.
type source struct {
	key  string
	ttl  time.Duration
	load func(context.Context) (page, error)
}

// page answers a GET by the page of the id in the path.
func (a *app) page(of func(id int64) source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := number(r, "id")
		if err != nil {
			answer(w, err)
			return
		}
		s := of(id)
		p, err := a.cache.get(r.Context(), s.key, s.ttl, s.load)
		if err != nil {
			answer(w, err)
			return
		}
		a.cache.headers(w.Header(), p, s.ttl)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Shown", p.Shown)
		_, _ = w.Write(p.Body)
	}
}

// answer says what went wrong.
func answer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errBadRequest):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, pgx.ErrNoRows):
		http.Error(w, "not found", http.StatusNotFound)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (a *app) menu(id int64) source {
	type dish struct {
		ID      int64           `json:"id"`
		Name    string          `json:"name"`
		Price   int             `json:"price_cents"`
		Options json.RawMessage `json:"options"`
	}
	return source{key: fmt.Sprintf("menu:%d", id), ttl: menuTTL, load: func(ctx context.Context) (page, error) {
		rows, err := a.db.Query(ctx, `SELECT menus.version, i.id, i.name, i.price_cents, i.version,
				(SELECT coalesce(json_agg(json_build_object('name', o.name, 'price_cents', o.price_cents) ORDER BY o.id), '[]')::text FROM options o WHERE o.item_id = i.id)
			FROM menus
			LEFT JOIN menu_items i ON i.store_id = menus.store_id AND i.available
			WHERE menus.store_id = $1 ORDER BY i.position, i.id`, id)
		if err != nil {
			return page{}, err
		}
		defer rows.Close()
		dishes := []dish{}
		var shown strings.Builder
		for rows.Next() {
			var list int64
			var item, version *int64
			var name *string
			var price *int
			var options string
			if err := rows.Scan(&list, &item, &name, &price, &version, &options); err != nil {
				return page{}, err
			}
			if shown.Len() == 0 {
				fmt.Fprintf(&shown, "menu:%d=%d", id, list)
			}
			if item != nil {
				dishes = append(dishes, dish{*item, *name, *price, json.RawMessage(options)})
				fmt.Fprintf(&shown, " item:%d=%d", *item, *version)
			}
		}
		if err := rows.Err(); err != nil {
			return page{}, err
		}
		if shown.Len() == 0 {
			return page{}, pgx.ErrNoRows
		}
		body, err := json.Marshal(dishes)
		return page{Shown: shown.String(), Tags: fmt.Sprintf("menu-%d menus all", id), Body: body}, err
	}}
}

func (a *app) store(id int64) source {
	return source{key: fmt.Sprintf("store:%d", id), ttl: storeTTL, load: func(ctx context.Context) (page, error) {
		p, err := a.row(ctx, fmt.Sprintf("store:%d", id), `SELECT version, json_build_object('name', name, 'city', city, 'opens', opens, 'closes', closes)::text
			FROM stores WHERE id = $1`, id)
		p.Tags = fmt.Sprintf("store-%d all", id)
		return p, err
	}}
}

func (a *app) loyalty(id int64) source {
	return source{key: fmt.Sprintf("loyalty:%d", id), ttl: loyaltyTTL, load: func(ctx context.Context) (page, error) {
		return a.row(ctx, fmt.Sprintf("account:%d", id), `SELECT version, json_build_object('name', name, 'points', points)::text FROM accounts WHERE id = $1`, id)
	}}
}

func (a *app) order(id int64) source {
	return source{key: fmt.Sprintf("order:%d", id), ttl: orderTTL, load: func(ctx context.Context) (page, error) {
		return a.row(ctx, fmt.Sprintf("order:%d", id), `SELECT version, json_build_object('status', status, 'total_cents', total_cents)::text FROM orders WHERE id = $1`, id)
	}}
}

// row loads a page that shows one row.
func (a *app) row(ctx context.Context, name, sql string, id int64) (page, error) {
	var version int64
	var body string
	if err := a.db.QueryRow(ctx, sql, id).Scan(&version, &body); err != nil {
		return page{}, err
	}
	return page{Shown: name + "=" + strconv.FormatInt(version, 10), Body: json.RawMessage(body)}, nil
}

// warm fills the caches before the rush: the menus and pages of the stores up to the number in the
// query, which are the busiest.
func (a *app) warm(w http.ResponseWriter, r *http.Request) {
	stores, err := number(r, "stores")
	if err != nil {
		answer(w, err)
		return
	}
	var all sync.WaitGroup
	limit := make(chan struct{}, 8)
	for id := range stores {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			for _, s := range []source{a.menu(id + 1), a.store(id + 1)} {
				// A page that cannot be made now is made when it is asked for.
				_, _ = a.cache.get(r.Context(), s.key, s.ttl, s.load)
			}
		})
	}
	all.Wait()
}
