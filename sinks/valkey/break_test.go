package valkey

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// When the connection breaks in the middle of a mixed call, whatever came after is
// reported as not done, each at its place.
func TestNothingIsTakenAsDoneAfterABreak(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	s := openSink(t, "valkey://"+px.addr(), nil, withTags("", TagSet{Key: "tag:{tag}"}))
	batch := append(keysOf("k"), invalidation.Invalidation{Kind: invalidation.Generation, Value: "g"}, invalidation.Invalidation{Kind: invalidation.Tag, Value: "red"}, pattern("p*"))
	for i, breaking := range []string{"UNLINK", "EVALSHA", "SSCAN", "SCARD", "RENAMENX", "SCAN"} {
		do(t, srv.admin, "FLUSHALL")
		fill(t, srv.admin, "k", "p")
		tag(t, srv.admin, "tag:red", "t")
		px.instead([]string{breaking}, "HTTP/1.1 400 Bad Request\r\n\r\n")
		err := s.Purge(t.Context(), batch)
		px.set(script{})
		require.Error(t, err, breaking)
		done := []bool{i > 0, i > 1, i > 4, false}
		var be *sinks.BatchError
		for place := range batch {
			if errors.As(err, &be) {
				require.Equal(t, done[place], be.Failed[place] == nil, "%s: place %d: %v", breaking, place, err)
			} else {
				require.False(t, done[place], "%s: %v", breaking, err)
			}
		}
		require.NoError(t, s.Purge(t.Context(), batch), breaking)
		require.Equal(t, []string{"g"}, allKeys(t, srv.admin), breaking)
	}
}

// Wherever in the pipelines the connection breaks: what is not reported as failed
// is done.
func TestABreakAnywhere(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	s := openSink(t, "valkey://"+px.addr(), nil, withTags("", TagSet{Key: "tag:{tag}"}))
	var batch []invalidation.Invalidation
	for i := range 120 { // more than go at once
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: fmt.Sprint(i)})
	}
	batch = append(batch, ofKind(invalidation.Generation, "g0", "g1", "g2")...)
	breaks := 0
	for cut := 1; ; cut += 23 {
		do(t, srv.admin, "FLUSHALL")
		do(t, srv.admin, "SCRIPT", "FLUSH")
		var cmds valkey.Commands
		b := srv.admin.B()
		for i := range 120 {
			cmds = append(cmds, b.Set().Key(fmt.Sprintf("p:%d", i)).Value("v").Build(), b.Sadd().Key(fmt.Sprintf("tag:%d", i)).Member(fmt.Sprintf("p:%d", i)).Build())
		}
		for _, r := range srv.admin.DoMulti(t.Context(), cmds...) {
			require.NoError(t, r.Error())
		}
		require.NoError(t, s.Purge(t.Context(), keysOf("connect")))
		seen := 0
		px.set(script{replies: func([]string) string {
			if seen++; seen >= cut {
				return "HTTP/1.1 400 Bad Request\r\n\r\n"
			}
			return ""
		}})
		err := s.Purge(t.Context(), batch)
		px.set(script{})
		if err == nil {
			break
		}
		breaks++
		var be *sinks.BatchError
		if !errors.As(err, &be) {
			continue // all failed
		}
		left := allKeys(t, srv.admin)
		for place, inv := range batch {
			switch {
			case be.Failed[place] != nil:
			case inv.Kind == invalidation.Tag:
				require.NotContains(t, left, "p:"+inv.Value, "cut %d", cut)
			default:
				require.Contains(t, left, inv.Value, "cut %d: raised", cut)
			}
		}
	}
	require.Greater(t, breaks, 10)
	// One counter finds that the server has forgotten the script, the next one
	// that the connection is gone.
	seen := 0
	do(t, srv.admin, "FLUSHALL")
	px.set(script{replies: func(args []string) string {
		if args[0] != "EVALSHA" {
			return ""
		}
		if seen++; seen == 1 {
			return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
		}
		return "HTTP/1.1 400 Bad Request\r\n\r\n"
	}})
	err := s.Purge(t.Context(), append(keysOf("k"), ofKind(invalidation.Generation, "g0", "g1")...))
	var be *sinks.BatchError
	require.True(t, errors.As(err, &be), "%v", err)
	require.Error(t, be.Failed[1])
	require.Error(t, be.Failed[2])
}
