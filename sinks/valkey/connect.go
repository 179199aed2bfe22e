package valkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks"
)

var errClosed = errors.New("valkey: the sink is closed")

// connected returns the client, connecting first if there is none.
func (s *Sink) connected(ctx context.Context) (*link, error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return nil, fmt.Errorf("valkey: waiting for the connection: %w", ctx.Err())
	}
	if s.closed {
		return nil, errClosed
	}
	if s.link != nil {
		return s.link, nil
	}
	l, err := s.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("valkey: connecting: %w", ctx.Err())
		}
		return nil, s.classify("connecting", err)
	}
	s.link = l
	s.log.Debug("valkey connected", "mode", string(l.Mode()))
	return l, nil
}

// drop closes a link that failed, so that the next call dials anew: behind a
// name or a virtual address another server may have taken over, and the
// password file may have changed.
func (s *Sink) drop(l *link) {
	s.lock <- struct{}{}
	mine := s.link == l
	if mine {
		s.link = nil
	}
	<-s.lock
	if mine {
		// Not l.close: it would wait for answers that may never come.
		l.kill()
		l.Client.Close()
	}
}

// Close closes the connections; a purge in flight fails. It blocks for at most
// a second on a server that does not answer. The client library may keep one
// sleeping goroutine for another second when the server is a cluster.
func (s *Sink) Close() {
	s.lock <- struct{}{}
	l := s.link
	s.link, s.closed = nil, true
	<-s.lock
	if l != nil {
		l.close()
	}
}

// connect dials, greets, and finds out whether the server is a cluster.
func (s *Sink) connect(ctx context.Context) (*link, error) {
	life, kill := context.WithCancel(context.Background())
	// valkey.NewClient takes no context; what ends with ctx is what it dials.
	release := context.AfterFunc(ctx, kill)
	client, err := s.client(ctx, life)
	if !release() && err == nil {
		client.Close()
		err = ctx.Err()
	}
	if err != nil {
		kill()
		return nil, err
	}
	return &link{Client: client, kill: kill}, nil
}

func (s *Sink) client(ctx, life context.Context) (valkey.Client, error) {
	if len(s.ep.addrs) > 1 {
		return valkey.NewClient(s.options(life))
	}
	// A plain connection asks first. Left to find out by itself, the client
	// begins as one of a cluster and may dial again after it has failed.
	opt := s.options(life)
	opt.ForceSingleClient = true
	single, err := valkey.NewClient(opt)
	if err != nil {
		if single != nil {
			single.Close()
		}
		return nil, err
	}
	mode, err := s.mode(ctx, single)
	if err == nil && mode == "standalone" {
		return single, nil
	}
	single.Close()
	if err != nil {
		return nil, err
	}
	if mode != "cluster" {
		return nil, sinks.LaneError(fmt.Errorf("valkey: the server says that it is a %q; point url at a primary or at a cluster", mode))
	}
	cluster, err := valkey.NewClient(s.options(life))
	if err != nil {
		return nil, err
	}
	if cluster.Mode() != valkey.ClientModeCluster {
		cluster.Close()
		return nil, errNoSlotTable
	}
	return cluster, nil
}

var errNoSlotTable = sinks.LaneError(errors.New(
	"valkey: the server is a cluster, and the user may not read its slot table; grant +cluster|slots +cluster|shards"))

// mode asks the server what it is. HELLO without arguments changes nothing, and
// the client needs the right to it anyway.
func (s *Sink) mode(ctx context.Context, client valkey.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	info, err := client.Do(ctx, client.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		return "", err
	}
	mode := info["mode"]
	return mode.ToString()
}

func (s *Sink) options(life context.Context) valkey.ClientOption {
	return valkey.ClientOption{
		InitAddress:       s.ep.addrs,
		SelectDB:          s.ep.database,
		TLSConfig:         s.tls,
		DialCtxFn:         dialer(life, s.ep.network),
		Dialer:            net.Dialer{Timeout: s.patience.dial},
		ConnWriteTimeout:  s.patience.reply,
		AuthCredentialsFn: s.credentials,
		// Nothing is read, so there is nothing to cache.
		DisableCache: true,
		// Trying again is the lane's, which knows how long and counts it.
		DisableRetry: true,
		// Without it a call with a deadline is not stopped by a cancellation.
		AlwaysPipelining: true,
		// One lane, one call at a time, one connection per node.
		PipelineMultiplex: -1,
		ClusterOption:     valkey.ClusterOption{MaxMovedRedirections: 8},
	}
}

// credentials is called at every connect, so a rotated password needs no restart.
func (s *Sink) credentials(valkey.AuthCredentialsContext) (valkey.AuthCredentials, error) {
	c := valkey.AuthCredentials{Username: s.cfg.Username, Password: s.ep.password}
	if c.Username == "" {
		c.Username = s.ep.username
	}
	if s.cfg.PasswordFile != "" {
		b, err := os.ReadFile(s.cfg.PasswordFile)
		if err != nil {
			return c, sinks.LaneError(fmt.Errorf("valkey: password_file: %w; make it readable for this process", err))
		}
		c.Password = string(bytes.TrimRight(b, " \t\r\n"))
		if c.Password == "" {
			return c, sinks.LaneError(errors.New("valkey: password_file is empty; write the password into it, or remove the key"))
		}
	}
	s.password.Store(&c.Password)
	return c, nil
}
