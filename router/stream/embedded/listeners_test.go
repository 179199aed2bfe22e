package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

const token = "open-sesame"

// listening starts a server with a port for listeners of the pipeline "p".
func listening(t *testing.T) (s *Server, addr, tokenFile string) {
	t.Helper()
	tokenFile = filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
	s = start(t, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", TokenFile: tokenFile, Announced: "walpurge.p.purged.>"})
	t.Cleanup(s.Close)
	return s, s.listeners.ns.Addr().String(), tokenFile
}

func TestListeningWhereSomebodyElseDoes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("open-sesame"), 0o600))
	_, err = Start(Config{Dir: t.TempDir(), Listen: l.Addr().String(), TokenFile: token}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "address already in use")
}

func TestListeningNeedsAToken(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, []byte(" \n"), 0o600))
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Listen: "127.0.0.1:0"}, "nats.listen needs nats.token_file"},
		{Config{Listen: "127.0.0.1:0", TokenFile: filepath.Join(dir, "none")}, "nats.token_file: open"},
		{Config{Listen: "127.0.0.1:0", TokenFile: empty}, "is empty"},
		{Config{Listen: "nowhere"}, `nats.listen "nowhere"`},
		{Config{Listen: "127.0.0.1:http", TokenFile: empty}, "port"},
	} {
		c.cfg.Dir = t.TempDir()
		_, err := Start(c.cfg, log)
		require.ErrorContains(t, err, c.want)
	}

	s, addr, tokenFile := listening(t)
	for _, opts := range [][]nats.Option{
		nil, {nats.Token("wrong")}, {nats.Token("")}, {nats.UserInfo("walpurge", token)}, {nats.UserInfo(token, "")}, {nats.UserInfo("", "")},
	} {
		_, err := nats.Connect("nats://"+addr, opts...)
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
	nc, err := nats.Connect("nats://"+addr, nats.Token(token))
	require.NoError(t, err)
	nc.Close()
	require.NoError(t, os.WriteFile(tokenFile, []byte("another"), 0o600))
	_, err = nats.Connect("nats://"+addr, nats.Token(token))
	require.ErrorIs(t, err, nats.ErrAuthorization, "the token is read for every connection")
	nc, err = nats.Connect("nats://"+addr, nats.Token("another"))
	require.NoError(t, err)
	nc.Close()
	require.NoError(t, os.WriteFile(tokenFile, nil, 0o600))
	_, err = nats.Connect("nats://"+addr, nats.Token(""))
	require.ErrorIs(t, err, nats.ErrAuthorization, "an empty file lets no client in")
	_, _, closeConn := connect(t, s) // the daemon itself, in the process
	closeConn()
}

func TestListenersHearWhatIsAnnounced(t *testing.T) {
	s, addr, _ := listening(t)
	daemon, err := s.Connect()
	require.NoError(t, err)
	defer daemon.Close()
	disconnected := make(chan struct{}, 8)
	nc, err := nats.Connect("nats://"+addr, nats.Token(token), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { disconnected <- struct{}{} }))
	require.NoError(t, err)
	defer nc.Close()
	heard := make(chan *nats.Msg, 8)
	_, err = nc.ChanSubscribe("walpurge.p.purged.*", heard)
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	require.NoError(t, daemon.Publish("walpurge.p.purge.cache", []byte("before the gates")))
	require.NoError(t, daemon.Publish("walpurge.p.purged.cache", []byte("after")))
	m := <-heard
	require.Equal(t, "walpurge.p.purged.cache", m.Subject)
	require.Equal(t, "after", string(m.Data))

	// What the listeners' server cannot carry, a listener must not miss: it is disconnected, and drops what it holds.
	require.NoError(t, daemon.Publish("walpurge.p.purged.cache", make([]byte, maxAnnouncement+1)))
	<-disconnected
}

// TestAHostileListener tries what someone can who has the listeners' token and wants more than to listen.
func TestAHostileListener(t *testing.T) {
	s, addr, _ := listening(t)
	js, st, closeConn := connect(t, s)
	defer closeConn()
	const stored = 5
	for range stored {
		_, err := js.Publish(t.Context(), "a.b", []byte("precious"))
		require.NoError(t, err)
	}
	daemon, err := s.Connect()
	require.NoError(t, err)
	defer daemon.Close()
	var leaked atomic.Int64
	_, err = daemon.Subscribe(">", func(m *nats.Msg) {
		if strings.Contains(string(m.Data), "hostile") {
			leaked.Add(1)
		}
	})
	require.NoError(t, err)
	require.NoError(t, daemon.Flush())

	refused := make(chan error, 1024)
	var heard atomic.Int64
	nc, err := nats.Connect("nats://"+addr, nats.Token(token), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	require.NoError(t, err)
	defer nc.Close()
	// denied requires that the server has refused what was just sent.
	denied := func(what string) {
		t.Helper()
		require.NoError(t, nc.Flush())
		select {
		case err := <-refused:
			require.ErrorIs(t, err, nats.ErrPermissionViolation, what)
		case <-time.After(20 * time.Second):
			require.Fail(t, "not refused", what)
		}
	}
	for _, subject := range []string{
		"a.b", "walpurge.p.progress", "walpurge.p.purge.cache", "walpurge.p.purged.cache", "walpurge.p.note.trimmed", "walpurge.p.manual.cache",
		"walpurge.p.hand.cache", "walpurge.p.parked.cache", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.PURGE.a", "$JS.API.STREAM.DELETE.a",
		"$JS.API.STREAM.MSG.DELETE.a", "$JS.API.STREAM.CREATE.b", "$JS.API.STREAM.UPDATE.a", "$JS.API.CONSUMER.CREATE.a", "$JS.API.CONSUMER.DELETE.a.cache",
		"$JS.API.CONSUMER.MSG.NEXT.a.cache", "$JS.ACK.a.cache.1.1.1.1.1", "$JS.FC.a", "$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.PING", "$SYS.ACCOUNT.$G.CONNECT",
		"$KV.a.b", "$O.a.b", "$SRV.PING", "_INBOX.a", "anything",
	} {
		require.NoError(t, nc.PublishRequest(subject, "walpurge.p.purged.answer", []byte("hostile")))
		denied("publish to " + subject)
	}
	for _, subject := range []string{
		">", "*", "a.>", "a.b", "walpurge.>", "walpurge.p.>", "walpurge.*.purged.cache", "walpurge.other.purged.cache", "walpurge.p.*.cache", "walpurge.p.purge.>", "walpurge.p.purge.cache",
		"walpurge.p.progress", "walpurge.p.note.>", "walpurge.p.purged", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "$SYS.REQ.>", "_INBOX.>", "_R_.>", "$SRV.>", "*.*.*.*",
	} {
		sub, err := nc.Subscribe(subject, func(*nats.Msg) { heard.Add(1) })
		require.NoError(t, err)
		denied("subscribe to " + subject)
		_ = sub.Unsubscribe()
	}
	mine, err := jetstream.New(nc)
	require.NoError(t, err)
	for what, try := range map[string]func(context.Context) error{
		"read a stream":   func(ctx context.Context) error { _, err := mine.Stream(ctx, "a"); return err },
		"delete a stream": func(ctx context.Context) error { return mine.DeleteStream(ctx, "a") },
		"create a stream": func(ctx context.Context) error {
			_, err := mine.CreateStream(ctx, jetstream.StreamConfig{Name: "b", Subjects: []string{"b"}})
			return err
		},
		"create a consumer": func(ctx context.Context) error {
			_, err := mine.CreateConsumer(ctx, "a", jetstream.ConsumerConfig{})
			return err
		},
		"publish": func(ctx context.Context) error { _, err := mine.Publish(ctx, "a.b", []byte("hostile")); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // short: no answer ever comes
		require.Error(t, try(ctx), what)
		cancel()
	}

	// Many subscriptions, on one connection and on many, more connections than there may be, and payloads that are
	// announced and never sent.
	for range 3 * maxSubscriptions {
		_, _ = nc.Subscribe("walpurge.p.purged.>", func(*nats.Msg) { heard.Add(1) })
	}
	open := 0
	for range maxListeners + 20 {
		if c := rawListener(t, addr); c != nil {
			open++
			_, _ = fmt.Fprintf(c, "PUB walpurge.p.purged.cache %d\r\nhostile", maxAnnouncement)
		}
	}
	require.LessOrEqual(t, open, maxListeners)
	require.Greater(t, open, maxListeners/2)
	big := rawConn(t, addr)
	_, _ = fmt.Fprintf(big, "CONNECT {\"auth_token\":%q}\r\nPUB walpurge.p.purged.cache %d\r\n", token, 1<<30)
	_, _ = io.Copy(io.Discard, big) // until the server has closed it

	// The daemon's part of the process noticed nothing: everything stored is there and the stream takes more.
	info, err := st.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, stored, info.State.Msgs)
	require.Zero(t, info.State.Consumers)
	_, err = js.Publish(t.Context(), "a.b", nil)
	require.NoError(t, err)
	require.NoError(t, daemon.Flush())
	require.Zero(t, leaked.Load(), "nothing of a listener's reached the daemon's server")
	require.Zero(t, heard.Load(), "a listener heard what was not announced")
	again, err := s.Connect()
	require.NoError(t, err, "the daemon is not limited by what listeners do")
	again.Close()
}

// rawConn opens a connection and returns it as the server greets it.
func rawConn(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

// rawListener presents the token on a new connection, and returns it, or nil if the server refuses it.
func rawListener(t *testing.T, addr string) net.Conn {
	t.Helper()
	c := rawConn(t, addr)
	_, _ = fmt.Fprintf(c, "CONNECT {\"auth_token\":%q,\"verbose\":false}\r\nPING\r\n", token)
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-ERR") {
			c.Close()
			return nil
		}
		if strings.HasPrefix(line, "PONG") {
			return c
		}
	}
}

// TestAListenerThatDoesNotRead must not hold what it does not read in memory, nor hold up the daemon.
func TestAListenerThatDoesNotRead(t *testing.T) {
	s, addr, _ := listening(t)
	daemon, err := s.Connect()
	require.NoError(t, err)
	defer daemon.Close()
	c := rawListener(t, addr)
	require.NotNil(t, c)
	_, _ = fmt.Fprint(c, "SUB walpurge.p.purged.> 1\r\nPING\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "PONG\r\n", line)
	payload := make([]byte, 256<<10)
	for s.listeners.ns.NumSlowConsumers() == 0 {
		require.NoError(t, t.Context().Err())
		require.NoError(t, daemon.Publish("walpurge.p.purged.cache", payload))
		require.NoError(t, daemon.Flush())
	}
}
