package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Server is an edge that listens on a port of its own on 127.0.0.1.
type Server struct {
	*Edge
	addr   string
	http   *http.Server
	served chan error
}

// Start makes an edge and serves it on a free port. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("edge: %w", err), e.Close())
	}
	s := &Server{
		Edge: e,
		addr: l.Addr().String(),
		http: &http.Server{
			Handler:           e,
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		},
		served: make(chan error, 1),
	}
	go func() {
		defer close(s.served)
		s.served <- s.http.Serve(l)
	}()
	return s, nil
}

// URL is the site's address, without a slash at its end.
func (s *Server) URL() string { return "http://" + s.addr }

// APIURL is the base URL of the API, as clients of Cloudflare want it.
func (s *Server) APIURL() string { return s.URL() + apiPrefix }

// Close closes the edge and its connections, those in use too. It may be called
// again.
func (s *Server) Close() error {
	err := errors.Join(s.Edge.Close(), s.http.Close())
	if served, ok := <-s.served; ok && !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("edge: %w", served))
	}
	return err
}
