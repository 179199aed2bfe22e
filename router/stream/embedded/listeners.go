package embedded

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/readfile"
)

// Limits of the listeners' server. Together they bound what someone who has the listeners' token can make
// the daemon hold in memory: maxListeners times maxPending and maxAnnouncement.
const (
	maxListeners     = 256
	maxSubscriptions = 32
	maxPending       = 4 << 20
	maxAnnouncement  = 1 << 20
	// loginSeconds is how long a connection may take to present the token.
	loginSeconds = 5
)

// listeners is a NATS server of its own for applications that listen for purges. It has no JetStream and is
// connected to nothing: what the daemon's server publishes on the purged subjects is copied to it. So whatever
// a listener sends, it cannot reach the stream, and a listener that reads slowly delays nothing in it.
//
// A listener may subscribe to the purged subjects of the pipeline and publish nothing.
type listeners struct {
	ns *server.Server
	// in is a connection to the daemon's server, out one to this server.
	in, out *nats.Conn
}

// listen starts the listeners' server and begins to copy. from is a connection to the daemon's server, which
// listeners closes.
func listen(cfg Config, from *nats.Conn, log *slog.Logger, conditions *condition.Log) (*listeners, error) {
	auth := &listenerAuth{tokenFile: cfg.TokenFile, subject: cfg.Announced, daemon: rand.Text()}
	opts, err := listenerOptions(cfg, auth)
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("NATS server for listeners: %w", err)
	}
	logs := &logger{log: log, conditions: conditions, about: "listeners"}
	ns.SetLoggerV2(logs, false, false, false)
	ns.Start()
	l := &listeners{ns: ns, in: from}
	if !ns.ReadyForConnections(10 * time.Second) {
		l.close()
		return nil, fmt.Errorf("NATS server for listeners did not start: %s", logs.lastError())
	}
	// The daemon connects before anyone else can: connections are limited.
	l.out, err = nats.Connect("", nats.InProcessServer(ns), nats.Name("walpurge"), nats.UserInfo(auth.daemon, auth.daemon),
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.DisconnectErrHandler(func(*nats.Conn, error) { l.disconnect() }))
	if err != nil {
		l.close()
		return nil, fmt.Errorf("connect to the NATS server for listeners: %w", err)
	}
	ready := make(chan struct{})
	ns.AcceptLoop(ready)
	<-ready
	if ns.Addr() == nil {
		l.close()
		return nil, fmt.Errorf("nats.listen: %s", logs.lastError())
	}
	from.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) { l.disconnect() }) // too slow: messages were dropped
	from.SetReconnectHandler(func(*nats.Conn) { l.disconnect() })
	if _, err := from.Subscribe(cfg.Announced, func(m *nats.Msg) {
		if l.out.Publish(m.Subject, m.Data) != nil {
			l.disconnect()
		}
	}); err != nil {
		l.close()
		return nil, fmt.Errorf("copy what is announced to listeners: %w", err)
	}
	if err := from.Flush(); err != nil {
		l.close()
		return nil, fmt.Errorf("copy what is announced to listeners: %w", err)
	}
	return l, nil
}

func listenerOptions(cfg Config, auth *listenerAuth) (*server.Options, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("nats.listen %q: %w", cfg.Listen, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("nats.listen %q: port: %w", cfg.Listen, err)
	}
	if cfg.TokenFile == "" {
		return nil, errors.New("nats.listen needs nats.token_file, the token of those who listen for purges")
	}
	if _, err := auth.token(); err != nil {
		return nil, err
	}
	return &server.Options{
		ServerName: "walpurge-listeners",
		Host:       host,
		Port:       number,
		// The port is opened once the daemon itself is connected.
		DontListen:                 true,
		NoSigs:                     true,
		CustomClientAuthentication: auth,
		AuthTimeout:                loginSeconds,
		MaxConn:                    maxListeners + 1,
		MaxSubs:                    maxSubscriptions,
		MaxPayload:                 maxAnnouncement,
		MaxPending:                 maxPending,
		DisableJetStreamBanner:     true,
	}, nil
}

// disconnect ends the connections of all listeners, since one of them may have missed a purge. They connect
// again, and drop what they hold.
func (l *listeners) disconnect() {
	own := uint64(0)
	if l.out != nil {
		own, _ = l.out.GetClientID() // 0 while it is not connected
	}
	all, err := l.ns.Connz(&server.ConnzOptions{Limit: 2 * maxListeners})
	if err != nil {
		return // the server is closing
	}
	for _, c := range all.Conns {
		if c.Cid != own {
			_ = l.ns.DisconnectClientByID(c.Cid) // an error means that it has left
		}
	}
}

// close stops copying and the server, and waits for it.
func (l *listeners) close() {
	l.in.Close()
	if l.out != nil {
		l.out.Close()
	}
	l.ns.Shutdown()
	l.ns.WaitForShutdown()
}

// listenerAuth decides who may connect to the listeners' server and what for. The token is read for every
// connection, so it can be replaced while the daemon runs; connections made with the old one last until they end.
type listenerAuth struct {
	tokenFile, subject string
	// daemon is the daemon's own name and password on this server, made for this process.
	daemon string
}

// Check implements server.Authentication.
func (a *listenerAuth) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	given := c.GetOpts()
	if equal(given.Username, a.daemon) && equal(given.Password, a.daemon) {
		c.RegisterUser(&server.User{Username: "walpurge"})
		return true
	}
	token, err := a.token()
	if err != nil || !equal(given.Token, token) {
		return false
	}
	c.RegisterUser(&server.User{Username: "listener", Permissions: &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{a.subject}},
		Publish:   &server.SubjectPermission{Deny: []string{">"}},
	}})
	return true
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (a *listenerAuth) token() (string, error) {
	text, err := readfile.Read(a.tokenFile, readfile.MaxSecret)
	if err != nil {
		return "", fmt.Errorf("nats.token_file: %w", err)
	}
	token := string(bytes.TrimSpace(text))
	if token == "" {
		return "", fmt.Errorf("nats.token_file: %s is empty; write a token into it, which those who listen for purges present", a.tokenFile)
	}
	return token, nil
}
