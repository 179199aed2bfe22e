package valkey

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/sinks/history"
)

// observer records what a sink sees, as the owner of a lane does.
type observer struct {
	t      *testing.T
	sink   *Sink
	record history.Record
}

func (o *observer) nodes() (nodes []history.Node) {
	o.t.Helper()
	// A server that is failed over closes its clients' connections, and a cluster takes a while to agree.
	require.Eventually(o.t, func() (ok bool) {
		var err error
		nodes, err = o.sink.Nodes(o.t.Context())
		return err == nil
	}, 60*time.Second, 20*time.Millisecond)
	return nodes
}

// purgedUpTo notes that the lane has purged so much.
func (o *observer) purgedUpTo(floor uint64) {
	o.t.Helper()
	o.record.Update(o.sink.cfg.Target(), o.nodes(), floor, 0, time.Now())
}

func (o *observer) decide() history.Decision {
	o.t.Helper()
	return history.Decide(&o.record, o.sink.cfg.Target(), o.nodes(), time.Now())
}

func (o *observer) requireSame(why string) {
	o.t.Helper()
	require.Equal(o.t, history.Decision{Answer: history.Same}, o.decide(), why)
}

// requirePurge demands that everything beyond a floor is purged again.
func (o *observer) requirePurge(why history.Reason, after uint64) {
	o.t.Helper()
	d := o.decide()
	require.Equal(o.t, history.Purge, d.Answer)
	require.Equal(o.t, why, d.Reason)
	require.Equal(o.t, after, d.After)
}

func startHarness(t *testing.T, args ...string) *harness.Valkey {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	v, err := harness.StartValkey(ctx, harness.ValkeyConfig{Args: args})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

func ask(t *testing.T, v *harness.Valkey, command string) string {
	t.Helper()
	reply, err := v.Ask(t.Context(), command)
	require.NoError(t, err, command)
	return reply
}

func observe(t *testing.T, url string, change func(*Config)) *observer {
	return &observer{t: t, sink: openSink(t, url, nil, change)}
}

// TestHistoryOfOneServer: what a server says of itself after each way to lose what it did, and after what loses
// nothing.
func TestHistoryOfOneServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args  []string
		after uint64 // what is purged again when it was killed
	}{
		"snapshots":            {args: []string{"--save", "3600 1"}},
		"a file of all writes": {args: []string{"--appendonly", "yes", "--appendfsync", "everysec"}},
		"nothing saved":        {after: 10},
	} {
		t.Run("killed, "+name, func(t *testing.T) {
			v := startHarness(t, c.args...)
			o := observe(t, v.URL(), nil)
			ask(t, v, "SET a 1")
			ask(t, v, "SAVE")
			if c.after > 0 {
				ask(t, v, "FLUSHALL")
				ask(t, v, "SAVE")
			}
			o.purgedUpTo(10)
			require.NoError(t, v.Kill())
			require.NoError(t, v.Restart(t.Context()))
			o.requirePurge(history.Restarted, c.after)
		})
	}

	v := startHarness(t, "--enable-debug-command", "yes")
	o := observe(t, v.URL(), nil)
	ask(t, v, "SET a 1")
	o.purgedUpTo(1)
	o.requireSame("it is as it was")
	ask(t, v, "FLUSHALL")
	o.requireSame("FLUSHALL")
	ask(t, v, "SET b 1")
	ask(t, v, "SET c 1")
	ask(t, v, "SAVE")
	o.requireSame("SAVE")
	o.purgedUpTo(2)
	ask(t, v, "DEL b")
	ask(t, v, "DEBUG RELOAD NOSAVE")
	o.requirePurge(history.Reloaded, 0)
	o.record = history.Record{}
	o.purgedUpTo(3)

	host, port, _ := net.SplitHostPort(v.Addr())
	replica := startHarness(t, "--replicaof", host+" "+port)
	untilSynced(t, replica)
	o.requireSame("its first replica has connected")
	renamed := observe(t, "valkey://localhost:"+port, nil)
	renamed.record = o.record
	renamed.requireSame("another name for the same server")

	// The replica has what was purged by 4, is cut off, and is promoted.
	ask(t, v, "SET d 1")
	o.purgedUpTo(4)
	untilCaughtUp(t, v, replica)
	ask(t, replica, "REPLICAOF NO ONE")
	ask(t, v, "SET e 1")
	o.purgedUpTo(5)
	ask(t, v, "SET f 1")
	o.purgedUpTo(6)
	promoted := observe(t, replica.URL(), nil)
	promoted.record = o.record
	promoted.requirePurge(history.Failover, 4)

	other := startHarness(t)
	ask(t, other, "SET a 1")
	stranger := observe(t, other.URL(), nil)
	stranger.record = o.record
	require.Equal(t, history.NewTarget, stranger.decide().Reason, "another server at another address")
}

func untilSynced(t *testing.T, replica *harness.Valkey) {
	require.Eventually(t, func() bool {
		return strings.Contains(ask(t, replica, "INFO replication"), "master_link_status:up")
	}, 60*time.Second, 10*time.Millisecond)
}

func offsetOf(t *testing.T, v *harness.Valkey, field string) string {
	_, after, _ := strings.Cut(ask(t, v, "INFO replication"), "\r\n"+field+":")
	offset, _, _ := strings.Cut(after, "\r\n")
	return offset
}

func untilCaughtUp(t *testing.T, primary, replica *harness.Valkey) {
	require.Eventually(t, func() bool {
		return offsetOf(t, primary, "master_repl_offset") == offsetOf(t, replica, "slave_repl_offset")
	}, 60*time.Second, 10*time.Millisecond)
}

// TestHistoryBehindSentinels: the replica that Sentinel promotes on request has what it has, and the sink
// follows it there.
func TestHistoryBehindSentinels(t *testing.T) {
	t.Parallel()
	primary := startHarness(t)
	host, port, _ := net.SplitHostPort(primary.Addr())
	replica := startHarness(t, "--replicaof", host+" "+port)
	untilSynced(t, replica)
	watch := startSentinel(t, primary.Addr())
	require.Eventually(t, func() bool {
		replicas, err := do(t, watch.admin, "SENTINEL", "REPLICAS", masterName).ToArray()
		return err == nil && len(replicas) == 1
	}, 60*time.Second, 20*time.Millisecond)
	o := &observer{t: t, sink: openSentinel(t, "valkey://"+watch.addr, nil)}
	ask(t, primary, "SET a 1")
	o.purgedUpTo(1)
	untilCaughtUp(t, primary, replica)
	o.requireSame("before the failover")
	require.Eventually(t, func() bool {
		r := watch.admin.Do(t.Context(), watch.admin.B().Arbitrary("SENTINEL", "FAILOVER", masterName).Build())
		return r.Error() == nil
	}, 60*time.Second, 100*time.Millisecond, "the sentinel finds the replica good enough")
	require.Eventually(t, func() bool {
		// A server that is promoted closes its clients' connections.
		info, err := replica.Ask(t.Context(), "INFO replication")
		return err == nil && strings.Contains(info, "role:master")
	}, 60*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { return o.decide().Answer == history.Purge }, 60*time.Second, 20*time.Millisecond)
	o.requirePurge(history.Failover, 1)
}

// TestHistoryOfACluster: a replica takes over from its primary.
func TestHistoryOfACluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
	defer cancel()
	cluster, err := harness.StartValkeyCluster(ctx, "", 2)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	o := observe(t, "valkey://"+cluster.Nodes[0].Addr()+","+cluster.Nodes[1].Addr(), nil)
	o.purgedUpTo(1)
	o.requireSame("nothing has happened")

	bus := strconv.Itoa(freePort(t))
	replica := startHarness(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000")
	_, port, _ := net.SplitHostPort(replica.Addr())
	ask(t, cluster.Nodes[0], "CLUSTER MEET 127.0.0.1 "+port+" "+bus)
	id := ask(t, cluster.Nodes[1], "CLUSTER MYID")
	require.Eventually(t, func() bool {
		_, err := replica.Ask(t.Context(), "CLUSTER REPLICATE "+id)
		return err == nil
	}, 60*time.Second, 20*time.Millisecond)
	untilSynced(t, replica)
	o.requireSame("its first replica has connected")
	o.purgedUpTo(2)
	untilCaughtUp(t, cluster.Nodes[1], replica)
	require.NoError(t, cluster.Nodes[1].Kill())
	ask(t, replica, "CLUSTER FAILOVER TAKEOVER")
	o.requirePurge(history.Failover, 2)
}

// The user may not run INFO, or there is a proxy that does not know it.
func TestHistoryIsNotTold(t *testing.T) {
	t.Parallel()
	v := startServer(t)
	do(t, v.admin, "ACL", "SETUSER", "walpurge", "on", ">pw", "~*", "+ping", "+unlink", "+scan")
	s := openSink(t, "valkey://walpurge:pw@"+v.addr, nil, nil)
	_, err := s.Nodes(t.Context())
	require.ErrorIs(t, err, ErrNotTold)
	require.ErrorContains(t, err, "+info")
	px := startProxy(t, v.addr)
	px.instead([]string{"INFO"}, "-ERR unknown command 'INFO'\r\n")
	_, err = openSink(t, "valkey://"+px.addr(), nil, nil).Nodes(t.Context())
	require.ErrorIs(t, err, ErrNotTold)
}
