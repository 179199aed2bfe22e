package valkey

import (
	"context"
	"crypto/tls"
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
		var conn net.Conn
		var err error
		if tc != nil {
			if tc, err = load(); err != nil {
				return nil, err
			}
			td := tls.Dialer{NetDialer: d, Config: tc}
			conn, err = td.DialContext(ctx, network, addr)
		} else {
			conn, err = d.DialContext(ctx, network, addr)
		}
		if err != nil {
			return nil, err
		}
		return &mortal{Conn: conn, forget: context.AfterFunc(life, func() { _ = conn.Close() })}, nil
	}
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
