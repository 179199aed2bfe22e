package valkey

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/sinks"
)

var errClosed = errors.New("valkey: the sink is closed")

// connected returns the client, connecting first without one.
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
		if s.current(ctx, s.link) {
			return s.link, nil
		}
		s.link.kill()
		s.link.Client.Close()
		s.link = nil
	}
	l, err := s.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("valkey: connecting: %w", ctx.Err())
		}
		return nil, s.classify(connecting, err)
	}
	s.link = l
	s.log.Debug("valkey connected", "mode", string(l.Mode()))
	return l, nil
}

var anotherPrimary = condition.Text{Level: slog.LevelInfo, On: "valkey has another primary"}

// current reports whether a link still leads to the primary that the sentinels
// name. They are asked every patience.ask: a server that was the primary may go
// on answering. If none of them answers, the link is as good as before.
func (s *Sink) current(ctx context.Context, l *link) bool {
	if l.primary == "" || time.Since(l.asked) < s.patience.ask {
		return true
	}
	addr, err := s.primary(ctx)
	if err != nil {
		s.log.Debug("valkey sentinels do not answer, staying with the primary they last named", "err", err)
		return true
	}
	l.asked = time.Now()
	if addr != l.primary {
		s.conditions.At(anotherPrimary).Observe("address", addr, "times", condition.Sum(1))
		return false
	}
	return true
}

// drop closes a link that failed, so that the next call dials again: behind a
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
	s.publisher.close()
	s.conditions.Close()
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
	client, primary, err := s.client(ctx, life)
	if !release() && err == nil {
		client.Close()
		err = ctx.Err()
	}
	if err != nil {
		kill()
		return nil, err
	}
	return &link{Client: client, kill: kill, primary: primary, asked: time.Now()}, nil
}

// client connects as the mode says. primary is the address that sentinels named.
func (s *Sink) client(ctx, life context.Context) (client valkey.Client, primary string, err error) {
	switch s.cfg.mode() {
	case sentinel:
		return s.followSentinels(ctx, life)
	case cluster:
		client, err = s.cluster(life)
		return client, "", err
	case standalone:
		opt := s.options(life)
		opt.AlwaysRESP2, opt.ClientSetInfo, opt.DialCtxFn = true, valkey.DisableClientSetInfo, withoutHello(opt.DialCtxFn)
		client, err = one(opt, s.ep.addrs[0])
		return client, "", err
	}
	// A plain connection asks first. Left to find out by itself, the client
	// begins as one of a cluster and may dial again after it has failed.
	s.clustered.Store(false)
	client, err = s.single(life, s.ep.addrs[0])
	if err != nil {
		return nil, "", err
	}
	mode, _, err := s.hello(ctx, client)
	if err == nil && mode == standalone {
		return client, "", nil
	}
	client.Close()
	switch {
	case err != nil:
		return nil, "", err
	case mode == sentinel:
		return nil, "", sinks.LaneError(errors.New("valkey: the server is a sentinel; set sentinel_master to the name of the primary that it watches"))
	case mode != cluster:
		return nil, "", sinks.LaneError(fmt.Errorf("valkey: the server says that it is a %q; point url at a primary, a cluster or sentinels", mode))
	}
	client, err = s.cluster(life)
	return client, "", err
}

// single connects to one server.
func (s *Sink) single(life context.Context, addr string) (valkey.Client, error) {
	return one(s.options(life), addr)
}

func one(opt valkey.ClientOption, addr string) (valkey.Client, error) {
	opt.ForceSingleClient, opt.InitAddress = true, []string{addr}
	client, err := valkey.NewClient(opt)
	if err != nil {
		if client != nil {
			client.Close()
		}
		return nil, err
	}
	return client, nil
}

func (s *Sink) cluster(life context.Context) (valkey.Client, error) {
	s.clustered.Store(true)
	client, err := valkey.NewClient(s.options(life))
	if err != nil {
		return nil, err
	}
	if client.Mode() == valkey.ClientModeCluster {
		return client, nil
	}
	client.Close()
	if s.cfg.Mode == cluster {
		return nil, errNoCluster
	}
	return nil, errNoSlotTable
}

var (
	errNoSlotTable = sinks.LaneError(errors.New(
		"valkey: the server is a cluster, and the user may not read its slot table; grant +cluster|slots +cluster|shards"))
	errNoCluster = sinks.LaneError(errors.New(
		"valkey: mode is cluster, and the server is not a cluster node, or the user may not read its slot table; write mode: auto, or grant +cluster|slots +cluster|shards"))
)

func (s *Sink) options(life context.Context) valkey.ClientOption {
	opt := valkey.ClientOption{
		InitAddress:       s.ep.addrs,
		SelectDB:          s.ep.database,
		DialCtxFn:         dialer(life, s.ep.network, func() (*tls.Config, error) { return s.cfg.TLS.load("tls") }),
		Dialer:            net.Dialer{Timeout: s.patience.dial, KeepAlive: s.patience.idle},
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
	if s.ep.tls {
		// Only a sign, to the library and to the dialer, which reads the files.
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return opt
}

// credentials is called at every connect, so a rotated password needs no restart.
func (s *Sink) credentials(valkey.AuthCredentialsContext) (valkey.AuthCredentials, error) {
	c := valkey.AuthCredentials{Username: s.cfg.Username, Password: s.ep.password}
	if c.Username == "" {
		c.Username = s.ep.username
	}
	if s.cfg.PasswordFile != "" {
		password, err := readPassword("password_file", s.cfg.PasswordFile)
		if err != nil {
			return c, err
		}
		c.Password = password
	}
	s.password.Store(&c.Password)
	return c, nil
}

// sentinelCredentials are those of the sentinels, where the file has some.
func (s *Sink) sentinelCredentials(valkey.AuthCredentialsContext) (valkey.AuthCredentials, error) {
	c := valkey.AuthCredentials{Username: s.cfg.SentinelUsername}
	if s.cfg.SentinelPasswordFile == "" {
		return c, nil
	}
	var err error
	c.Password, err = readPassword("sentinel_password_file", s.cfg.SentinelPasswordFile)
	s.sentinelPassword.Store(&c.Password)
	return c, err
}

// readPassword reads the file that a key names, without the white space at its end.
func readPassword(key, file string) (string, error) {
	b, err := readfile.Read(file, readfile.MaxSecret)
	if err != nil {
		return "", sinks.LaneError(fmt.Errorf("valkey: %s: %w; make it readable for this process", key, err))
	}
	password := string(bytes.TrimRight(b, " \t\r\n"))
	if password == "" {
		return "", sinks.LaneError(fmt.Errorf("valkey: %s is empty; write the password into it, or remove the key", key))
	}
	return password, nil
}
