// Command app is the restaurant chain's application, as its team wrote it: menus, stores, loyalty
// balances and orders over HTTP, from PostgreSQL, with a cache in Valkey and Varnish before it.
// Everything about caches is in cache.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cfg, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	cfg.MaxConns = 16
	db, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	cache, err := openCache(os.Getenv)
	if err != nil {
		return err
	}
	defer cache.close()
	server := &http.Server{Addr: os.Getenv("LISTEN"), Handler: routes(&app{db: db, cache: cache}), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func routes(a *app) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /up", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getpid()) })
	mux.HandleFunc("GET /stores/{id}", a.page(a.store))
	mux.HandleFunc("GET /stores/{id}/menu", a.page(a.menu))
	mux.HandleFunc("GET /loyalty/{id}", a.page(a.loyalty))
	mux.HandleFunc("GET /orders/{id}", a.page(a.order))
	mux.HandleFunc("POST /orders", a.write(a.placeOrder))
	mux.HandleFunc("PUT /admin/items/{id}/price", a.write(a.setPrice))
	mux.HandleFunc("PUT /admin/items/{id}/available", a.write(a.toggleItem))
	mux.HandleFunc("PUT /admin/stores/{id}/hours", a.write(a.setHours))
	mux.HandleFunc("POST /admin/accounts/{id}/points", a.write(a.addPoints))
	mux.HandleFunc("PUT /admin/orders/{id}/status", a.write(a.setStatus))
	mux.HandleFunc("POST /admin/promotion", a.promotion)
	mux.HandleFunc("POST /admin/warm", a.warm)
	return mux
}

// number reads a number from the path or the query, by its name.
func number(r *http.Request, name string) (int64, error) {
	text := r.PathValue(name)
	if text == "" {
		text = r.URL.Query().Get(name)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, errBadRequest)
	}
	return n, nil
}
