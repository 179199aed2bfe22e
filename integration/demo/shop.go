package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valkey-io/valkey-go"
)

// Shop is the application: pages made of rows, kept in Valkey by cache-aside,
// and tagged for the edge. It knows nothing of walpurge.
type Shop struct {
	DB    *pgxpool.Pool
	Cache valkey.Client
	// TTL is how long a cached value may live; walpurge is why it can be long.
	TTL time.Duration
}

// page is a cached response: a body, and the tags that the edge is told.
type page struct {
	Tags []string        `json:"tags"`
	Body json.RawMessage `json:"body"`
}

// ServeHTTP answers /p/{slug}, /c/{slug} and /menu/{store}.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	key, load := "", (func(context.Context, string) (page, error))(nil)
	switch kind {
	case "p":
		key, load = "product:slug:"+name, s.product
	case "c":
		key, load = "category:slug:"+name, s.category
	case "menu":
		key, load = "menu:"+name, s.menu
	default:
		http.NotFound(w, r)
		return
	}
	p, err := s.cached(r.Context(), key, name, load)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, "the shop is out of order", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Cache-Tag", strings.Join(p.Tags, ","))
	_, _ = w.Write(p.Body)
}

// cached is plain cache-aside: look, load, store.
func (s *Shop) cached(ctx context.Context, key, name string, load func(context.Context, string) (page, error)) (page, error) {
	var p page
	if raw, err := s.Cache.Do(ctx, s.Cache.B().Get().Key(key).Build()).AsBytes(); err == nil && json.Unmarshal(raw, &p) == nil {
		return p, nil
	}
	p, err := load(ctx, name)
	if err != nil {
		return p, err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	return p, s.Cache.Do(ctx, s.Cache.B().Set().Key(key).Value(string(raw)).Ex(s.TTL).Build()).Error()
}

func (s *Shop) product(ctx context.Context, slug string) (page, error) {
	var id, merchant, price int64
	var name string
	err := s.DB.QueryRow(ctx, `SELECT id, merchant_id, name, price_cents FROM products
		WHERE slug = $1 AND status <> 'draft'`, slug).Scan(&id, &merchant, &name, &price)
	if err != nil {
		return page{}, err
	}
	return render([]string{fmt.Sprintf("product-%d", id), fmt.Sprintf("merchant-%d", merchant)},
		map[string]any{"id": id, "name": name, "price_cents": price})
}

func (s *Shop) category(ctx context.Context, slug string) (page, error) {
	var id int64
	var name string
	if err := s.DB.QueryRow(ctx, "SELECT id, name FROM categories WHERE slug = $1", slug).Scan(&id, &name); err != nil {
		return page{}, err
	}
	return render([]string{fmt.Sprintf("category-%d", id)}, map[string]any{"id": id, "name": name})
}

func (s *Shop) menu(ctx context.Context, store string) (page, error) {
	id, err := strconv.ParseInt(store, 10, 64)
	if err != nil {
		return page{}, pgx.ErrNoRows
	}
	rows, err := s.DB.Query(ctx, "SELECT name FROM menu_items WHERE store_id = $1 AND available ORDER BY id", id)
	if err != nil {
		return page{}, err
	}
	dishes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return page{}, err
	}
	return render([]string{fmt.Sprintf("store-%d", id)}, map[string]any{"store": id, "dishes": dishes})
}

func render(tags []string, v any) (page, error) {
	body, err := json.Marshal(v)
	return page{Tags: tags, Body: body}, err
}
