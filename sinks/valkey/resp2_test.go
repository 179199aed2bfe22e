package valkey

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// startRESP2 starts a proxy that knows some commands only and no RESP3. Another one gets the given reply, or, without
// one, the end of the connection.
func startRESP2(t *testing.T, upstream, reply string) (addr string, commands func() []string) {
	known := []string{"AUTH", "PING", "SELECT", "UNLINK", "DEL", "EVAL", "EVALSHA", "SCAN", "RENAMENX", "SCARD", "SSCAN", "HDEL"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var seen []string
	var open sync.WaitGroup
	serve := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		up, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer func() { _ = up.Close() }()
		in, replies := bufio.NewReader(c), bufio.NewReader(up)
		for {
			args, err := readCommand(in)
			if err != nil {
				return
			}
			mu.Lock()
			seen = append(seen, strings.ToUpper(args[0]))
			mu.Unlock()
			answer := []byte(reply)
			if slices.Contains(known, strings.ToUpper(args[0])) {
				if _, err := up.Write(encode(args)); err != nil {
					return
				}
				if answer, err = readReply(replies, nil); err != nil {
					return
				}
			} else if reply == "" {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { serve(c) })
			t.Cleanup(func() { _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func TestProxyWithoutHello(t *testing.T) {
	srv := startServer(t)
	do(t, srv.admin, "ACL", "SETUSER", "walpurge", "on", ">hunter2", "+@all", "~*")
	for name, reply := range map[string]string{
		"Envoy": "-ERR unknown command 'hello', with args beginning with: 3 AUTH walpurge hunter2 \r\n", "older Envoy": "-unsupported command 'hello'\r\n",
		"another": "-ERR not allowed here\r\n", "twemproxy": "",
	} {
		t.Run(name, func(t *testing.T) {
			addr, seen := startRESP2(t, srv.addr, reply)
			err := openSink(t, "valkey://walpurge:hunter2@"+addr, nil, nil).Purge(t.Context(), keysOf("a"))
			require.ErrorContains(t, err, "write mode: standalone")
			require.NotContains(t, err.Error(), "hunter2")
			if reply != "" {
				own, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(reply, "-"), "ERR "), ",")
				requireLane(t, err, strings.TrimSpace(own))
			}
			before := len(seen())
			s := openSink(t, "valkey://walpurge:hunter2@"+addr+"/1", nil, func(c *Config) { c.Mode = standalone })
			do(t, srv.admin, "SELECT", "0")
			require.NoError(t, s.Check(t.Context()))
			require.NoError(t, s.Purge(t.Context(), append(keysOf("a"), ofKind(invalidation.Generation, "g")...)))
			require.NotContains(t, seen()[before:], "HELLO")
			require.NotContains(t, seen()[before:], "CLIENT")
		})
	}
}

// A standalone server that has HELLO does without it.
func TestStandaloneWithoutHello(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Mode = standalone })
	fill(t, srv.admin, "a")
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, srv.admin, "a"))
	do(t, srv.admin, "CONFIG", "SET", "requirepass", "other")
	requireLane(t, openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Mode = standalone }).Purge(t.Context(), keysOf("a")), "NOAUTH")
	requireLane(t, openSink(t, "valkey://:wrong@"+srv.addr, nil, func(c *Config) { c.Mode = standalone }).Purge(t.Context(), keysOf("a")), "WRONGPASS")
}
