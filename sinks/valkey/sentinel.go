package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks"
)

// A client of the library could follow sentinels by itself. It is not used: it
// listens in the background on connections that it does not close, and believes
// one missed message for ever. Here each purge asks.

// primary asks all sentinels at once who the primary is and returns the first
// answer. It blocks for at most patience.dial.
func (s *Sink) primary(ctx context.Context) (addr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.dial)
	defer cancel()
	type answer struct {
		addr string
		err  error
	}
	answers := make(chan answer)
	for _, at := range s.ep.addrs {
		go func() {
			addr, err := s.askSentinel(ctx, at)
			answers <- answer{addr, err}
		}()
	}
	// All are waited for: those that are left end with ctx.
	for range s.ep.addrs {
		a := <-answers
		switch {
		case addr != "":
		case a.err == nil:
			addr = a.addr
			cancel()
		default:
			err = s.moreTelling(err, a.err)
		}
	}
	if addr != "" {
		return addr, nil
	}
	return "", err
}

// moreTelling prefers what an operator has to repair to what may pass.
func (s *Sink) moreTelling(a, b error) error {
	if a != nil {
		if class, _ := sinks.ClassOf(s.classify("", a)); class == sinks.Lane {
			return a
		}
	}
	return b
}

// askSentinel asks the one at an address. Without credentials of their own it is asked without any at first: most have
// none. One that refuses this gets those of the servers.
func (s *Sink) askSentinel(ctx context.Context, at string) (string, error) {
	asking := &party{who: "the sentinel " + at, sentinel: true}
	if s.cfg.SentinelUsername != "" || s.cfg.SentinelPasswordFile != "" {
		addr, err := s.askAs(ctx, at, s.sentinelCredentials)
		return addr, asking.wrap(err)
	}
	addr, err := s.askAs(ctx, at, nil)
	reply, refused := valkey.IsValkeyErr(err)
	if c, _ := s.credentials(valkey.AuthCredentialsContext{}); c.Password != "" &&
		refused && (strings.HasPrefix(reply.Error(), "NOAUTH") || strings.HasPrefix(reply.Error(), "NOPERM")) {
		asking.borrowed = true
		addr, err = s.askAs(ctx, at, s.credentials)
	}
	return addr, asking.wrap(err)
}

func (s *Sink) askAs(ctx context.Context, at string, credentials func(valkey.AuthCredentialsContext) (valkey.AuthCredentials, error)) (string, error) {
	life, kill := context.WithCancel(ctx)
	defer kill()
	opt := s.options(life)
	opt.InitAddress, opt.ForceSingleClient, opt.SelectDB, opt.AuthCredentialsFn = []string{at}, true, 0, credentials
	if t := s.cfg.SentinelTLS; t != nil {
		opt.TLSConfig = nil
		files, block := s.cfg.TLS, "tls"
		if t.Enabled {
			opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if t.TLSConfig != (TLSConfig{}) {
			files, block = t.TLSConfig, "sentinel_tls"
		}
		opt.DialCtxFn = dialer(life, s.ep.network, func() (*tls.Config, error) { return files.load(block) })
	}
	opt.ReadBufferEachConn, opt.WriteBufferEachConn, opt.RingScaleEachConn = 4<<10, 4<<10, 4
	client, err := valkey.NewClient(opt)
	if err != nil {
		if client != nil {
			client.Close()
		}
		return "", err
	}
	defer client.Close()
	addr, err := client.Do(ctx, client.B().SentinelGetMasterAddrByName().Master(s.cfg.SentinelMaster).Build()).AsStrSlice()
	switch {
	case valkey.IsValkeyNil(err):
		return "", sinks.LaneError(fmt.Errorf("valkey: the sentinels know no primary %q; correct sentinel_master", s.cfg.SentinelMaster))
	case err != nil:
		return "", err
	case len(addr) != 2:
		return "", errors.New("valkey: a sentinel's answer is no address")
	}
	return net.JoinHostPort(addr[0], addr[1]), nil
}

// followSentinels connects to the server that they name, once it agrees that it
// is the primary.
func (s *Sink) followSentinels(ctx, life context.Context) (client valkey.Client, addr string, err error) {
	addr, err = s.primary(ctx)
	if err != nil {
		return nil, "", err
	}
	named := &party{who: "the server " + addr + ", which the sentinels name"}
	client, err = s.single(life, addr)
	if err != nil {
		return nil, "", named.wrap(err)
	}
	_, role, err := s.hello(ctx, client)
	if err == nil && role != "master" {
		err = errors.New("valkey: the server that the sentinels name is a replica; a failover is under way")
	}
	if err != nil {
		client.Close()
		return nil, "", named.wrap(err)
	}
	return client, addr, nil
}
