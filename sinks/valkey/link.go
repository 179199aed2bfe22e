package valkey

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/valkey-io/valkey-go"
)

// link is a client together with the life of every connection it dials. A
// closed client of a cluster can still dial to refresh its slot table; nothing
// would ever close those connections.
type link struct {
	valkey.Client
	kill context.CancelFunc
	// primary is the address that sentinels named, and asked when they last did;
	// empty without sentinels.
	primary string
	asked   time.Time
}

func (l *link) close() {
	l.Client.Close()
	l.kill()
}

type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// dialer dials connections that close when life ends. Where TLS is asked for, by
// a configuration that is not nil, what it needs is loaded for each connection.
func dialer(life context.Context, network string, load func() (*tls.Config, error)) dialFunc {
	return func(ctx context.Context, addr string, d *net.Dialer, tc *tls.Config) (net.Conn, error) {
		if life.Err() != nil {
			return nil, errClosed
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		conn, err := d.DialContext(ctx, network, addr)
		if err == nil && tc != nil {
			conn, err = handshake(ctx, conn, addr, d.Timeout, load)
		}
		if err != nil {
			return nil, err
		}
		return &mortal{Conn: conn, forget: context.AfterFunc(life, func() { _ = conn.Close() })}, nil
	}
}

// withoutHello makes connections on which the client's greeting has PING in the place of HELLO, for proxies that do not
// know HELLO and answer it in words of their own, or by closing the connection. The client sends HELLO 2 even where it
// speaks RESP2 from the start; to it the answer is one of a server without HELLO.
func withoutHello(dial dialFunc) dialFunc {
	return func(ctx context.Context, addr string, d *net.Dialer, tc *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, addr, d, tc)
		if err != nil {
			return nil, err
		}
		return &helloLess{Conn: conn}, nil
	}
}

type helloLess struct {
	net.Conn
	greeted bool
}

// Write replaces HELLO in the first write, which is the greeting.
func (c *helloLess) Write(b []byte) (int, error) {
	if c.greeted {
		return c.Conn.Write(b)
	}
	c.greeted = true
	if _, err := c.Conn.Write(bytes.Replace(b, []byte("*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"), []byte("*1\r\n$4\r\nPING\r\n"), 1)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// handshakeError is a TLS handshake that failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// handshake makes a TLS connection of one; it takes at most the given time. On an error the connection is closed.
func handshake(ctx context.Context, conn net.Conn, addr string, timeout time.Duration, load func() (*tls.Config, error)) (net.Conn, error) {
	tc, err := load()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if host, _, splitErr := net.SplitHostPort(addr); tc.ServerName == "" && splitErr == nil {
		tc.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	secured := tls.Client(conn, tc)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &handshakeError{err}
	}
	return secured, nil
}

// mortal is a connection that its life forgets once it is closed.
type mortal struct {
	net.Conn
	forget func() bool
}

func (m *mortal) Close() error {
	m.forget()
	return m.Conn.Close()
}
