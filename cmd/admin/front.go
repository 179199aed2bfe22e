package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Front serves a listener. What answers behind it can be exchanged while it does.
type Front struct {
	http   *http.Server
	behind atomic.Pointer[Server]
}

// NewFront returns a front that listens to nothing until Run.
func NewFront(first *Server) *Front {
	f := &Front{}
	f.behind.Store(first)
	f.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.behind.Load().handler.ServeHTTP(w, r) }),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(first.cfg.Logger.Handler(), slog.LevelDebug),
	}
	f.http.RegisterOnShutdown(func() { f.behind.Load().watchers.dismiss() })
	return f
}

// Exchange lets another server answer from now on. Requests that the old one answers
// go on, waits go on at the new one, and clients that follow events are disconnected and ask the new one.
func (f *Front) Exchange(next *Server) {
	old := f.behind.Swap(next)
	old.next = next
	close(old.replaced)
	old.watchers.dismiss()
}

// Run serves the listener until the context ends, gives requests in flight a
// second, and returns nil.
func (f *Front) Run(ctx context.Context, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- f.http.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("http listener: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if f.http.Shutdown(grace) != nil {
		_ = f.http.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http listener: %w", err)
	}
	return nil
}
