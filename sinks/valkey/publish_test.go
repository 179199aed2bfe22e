package valkey

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// listen subscribes to a channel, and returns what comes.
func listen(t *testing.T, c valkey.Client, channel string) <-chan string {
	t.Helper()
	heard := make(chan string, 100)
	ready, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	dedicated, release := c.Dedicate()
	wait := dedicated.SetPubSubHooks(valkey.PubSubHooks{
		OnMessage:      func(m valkey.PubSubMessage) { heard <- m.Message },
		OnSubscription: func(valkey.PubSubSubscription) { close(ready) },
	})
	require.NoError(t, dedicated.Do(ctx, dedicated.B().Subscribe().Channel(channel).Build()).Error())
	go func() {
		defer close(ended)
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}()
	<-ready
	t.Cleanup(func() { cancel(); <-ended; release() })
	return heard
}

func next(t *testing.T, heard <-chan string) string {
	t.Helper()
	select {
	case text := <-heard:
		return text
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing was published")
		return ""
	}
}

func TestPublish(t *testing.T) {
	srv := startServer(t)
	heard := listen(t, srv.admin, "invalidations")
	results := make(chan bool, 100)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) {
		c.KeyPrefix, c.Publish.Channel, c.Published = "app:", "invalidations", func(ok bool) { results <- ok }
	})

	// After a purge comes what was purged, as the rules name it, and nothing that failed.
	do(t, srv.admin, "SET", "app:no hash", "x")
	batch := append(ofKind(invalidation.Key, "product:7", "\xff"), fieldsOf("r", "products", "7", "\xfe")...)
	batch = append(batch, fieldsOf("r", "no hash", "7")...)
	batch = append(batch, invalidation.Invalidation{Kind: invalidation.Generation, Value: "catalog"}, invalidation.Invalidation{Kind: invalidation.KeyPattern, Value: "p:*"}, invalidation.Invalidation{Kind: invalidation.Everything})
	var be *sinks.BatchError
	require.ErrorAs(t, s.Purge(t.Context(), batch), &be)
	require.Len(t, be.Failed, 1)
	require.Equal(t, `{"v":1,"keys":["product:7"],"fields":[{"key":"products","field":"7"},{"key":"cHJvZHVjdHM=","field":"/g==","base64":true}],`+
		`"generations":["catalog"],"key_patterns":["p:*"],"everything":true,"base64":{"key":["/w=="]}}`, next(t, heard))
	require.True(t, <-results)

	// A large purge is several messages, in order.
	var names []string
	for i := range 1200 {
		names = append(names, fmt.Sprint("k", i))
	}
	require.NoError(t, s.Purge(t.Context(), append(ofKind(invalidation.Key, names...), ofKind(invalidation.Key, strings.Repeat("x", 60<<10))...)))
	var got []string
	for range 3 {
		var m struct{ Keys []string }
		require.NoError(t, json.Unmarshal([]byte(next(t, heard)), &m))
		got = append(got, m.Keys...)
	}
	require.Equal(t, names, got[:1200])
	require.Len(t, got, 1201)

	// A purge that failed as a whole is not told of.
	do(t, srv.admin, "SET", "app:no hash", "x")
	require.Error(t, s.Purge(t.Context(), fieldsOf("r", "no hash", "7")))
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Key, "last")))
	require.Equal(t, `{"v":1,"keys":["last"]}`, next(t, heard))
}

// A purge does not fail or wait because its message cannot be sent.
func TestPublishThatFails(t *testing.T) {
	srv := startServer(t)
	do(t, srv.admin, "ACL", "SETUSER", "limited", "on", "nopass", "~*", "+info", "+unlink", "+ping", "+publish", "&other")
	results := make(chan bool, 10)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) {
		c.Username, c.Uses = "limited", invalidation.Kinds(invalidation.Key)
		c.Publish.Channel, c.Published = "invalidations", func(ok bool) { results <- ok }
	})
	fill(t, srv.admin, "a")
	require.NoError(t, s.Check(t.Context()), "it cannot be told without a message to those who listen")
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Key, "a")))
	require.Empty(t, allKeys(t, srv.admin))
	require.False(t, <-results)

	// What waits is bounded, and what is past the bound is counted.
	stuck := newPublisher(s)
	stuck.start.Do(func() { close(stuck.done) })
	for range messagesWaiting + 3 {
		stuck.publish(nil, ofKind(invalidation.Key, "a"), nil)
	}
	for range 3 {
		require.False(t, <-results)
	}
	require.Empty(t, results)
}

func TestPublishInACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	var heard []<-chan string
	for _, n := range nodes {
		heard = append(heard, listen(t, n.admin, "invalidations"))
	}
	s := openSink(t, "valkey://"+nodes[0].addr, nil, func(c *Config) { c.Publish.Channel = "invalidations" })
	for _, h := range heard {
		// A message is lost while the nodes of a new cluster still connect to each other.
		require.Eventually(t, func() bool {
			require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Key, "a", "b", "c")))
			select {
			case text := <-h:
				require.Equal(t, `{"v":1,"keys":["a","b","c"]}`, text)
				return true
			case <-time.After(100 * time.Millisecond):
				return false
			}
		}, 30*time.Second, time.Millisecond, "whichever node one listens at")
	}
}
