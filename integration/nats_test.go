package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/router/stream"
)

// external starts a NATS server that is not the daemon's on a directory of the rig, and has the daemon use it with
// the permissions that docs/security.md asks for. The user "operator" may do everything, "listener" what
// applications that listen need.
func (r *rig) external(listen, dir string, maxStore int64) *natsServer {
	r.t.Helper()
	host, port := hostPort(listen)
	publish, subscribe := stream.Permissions("app")
	ns, err := server.NewServer(&server.Options{
		Host: host, Port: port, JetStream: true, StoreDir: filepath.Join(r.dir, dir), JetStreamMaxMemory: 8 << 20, JetStreamMaxStore: maxStore,
		MaxPayload: 4 << 20, NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "operator", Password: edgeToken},
			{Username: "walpurge", Password: edgeToken, Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
			}},
			{Username: "listener", Password: edgeToken, Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{">"}}, Subscribe: &server.SubjectPermission{Allow: subscribe[1:]},
			}},
		},
	})
	require.NoError(r.t, err)
	ns.Start()
	require.True(r.t, ns.ReadyForConnections(30*time.Second))
	r.extra = fmt.Sprintf("nats: {url: 'nats://walpurge:%s@%s', replicas: 1}", edgeToken, listen)
	return &natsServer{ns}
}

// natsServer is a NATS server in the test's process.
type natsServer struct{ *server.Server }

func (s *natsServer) Close() {
	s.Shutdown()
	s.WaitForShutdown()
}

// TestExternalServer keeps the stream on a server that is not the daemon's. With
// one replica nobody vouches for its disk, so PostgreSQL may forget only what is
// purged.
func TestExternalServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	listen := freeAddr(t)
	t.Cleanup(r.external(listen, "nats", 4<<30).Close)
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	_, err := os.Stat(r.path("data"))
	require.ErrorIs(t, err, os.ErrNotExist, "the daemon needs no directory of its own")

	r.fill([]string{"product:1", "product:2"}, "/product-1")
	r.exec("UPDATE products SET name = 'b' WHERE id = 1")
	lsn := r.lsn()
	d.wait(lsn, 30*time.Second)
	require.Equal(t, []string{"product:2"}, r.held("product:1", "product:2"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"))
	eventually(t, 30*time.Second, func() bool {
		var confirmed bool
		err := r.db.QueryRow(t.Context(), "SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = 'walpurge_app'", lsn).Scan(&confirmed)
		return err == nil && confirmed
	}, "what is purged is confirmed")
	d.kill()
	r.fill([]string{"product:1"})
	r.exec("UPDATE products SET name = 'c' WHERE id = 1")
	d = r.start()
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"))
	d.term()
}

// TestForgedClaimsOnAnExternalServer: someone who may publish to the stream claims all kinds of things. Nothing is
// confirmed or reported as purged that was not, sinks are flushed, and the pipeline goes on.
func TestForgedClaimsOnAnExternalServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	listen := freeAddr(t)
	t.Cleanup(r.external(listen, "nats", 4<<30).Close)
	r.extra += "\nstream: {confirm: purged}"
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	var system string
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT system_identifier::text FROM pg_control_system()").Scan(&system))
	operator, err := nats.Connect("nats://operator:" + edgeToken + "@" + listen)
	require.NoError(t, err)
	t.Cleanup(operator.Close)
	js, err := jetstream.New(operator)
	require.NoError(t, err)

	claim := `{"v":1,"epoch":%d,"counter":2,"claim":"%s","system_id":"%s","timeline":1,"committed_at":"2026-11-30T12:00:00Z"}`
	for i, forged := range []string{
		fmt.Sprintf(claim, 1, "FFFFFF/0", system),
		fmt.Sprintf(claim, 1, "FFFFFF/0", "7430112233445566778"),
		"no claim",
		fmt.Sprintf(claim, 99, "FFFFFF/0", system), // as another process does that takes over
	} {
		r.fill([]string{"product:77"}) // no row has it, so a flush alone removes it
		_, err := js.Publish(t.Context(), "walpurge.app.progress", []byte(forged))
		require.NoError(t, err)
		eventually(t, 60*time.Second, func() bool { return len(r.held("product:77")) == 0 }, "the sinks are flushed, "+forged)
		code, body := d.get("/api/v1/wait?lsn=FFFFF0/0&timeout=1s")
		require.Equal(t, http.StatusGatewayTimeout, code, body)

		id := i + 1
		r.exec(fmt.Sprintf("INSERT INTO products (id, slug) VALUES (%[1]d, 's%[1]d')", id))
		r.fill([]string{fmt.Sprintf("product:%d", id)})
		r.exec(fmt.Sprintf("UPDATE products SET name = 'b' WHERE id = %d", id))
		d.untilStreaming()
		d.wait(r.lsn(), 60*time.Second)
		require.Empty(t, r.held(fmt.Sprintf("product:%d", id)), "the pipeline goes on")
		var beyond bool
		require.NoError(t, r.db.QueryRow(t.Context(), "SELECT confirmed_flush_lsn > pg_current_wal_insert_lsn() FROM pg_replication_slots WHERE slot_name = 'walpurge_app'").Scan(&beyond))
		require.False(t, beyond, forged)
		if i == 1 {
			require.Equal(t, "2", d.metric(`walpurge_gaps_total{reason="unproven_claim"}`), "each is counted once")
		}
	}
	d.logged("a claim in the stream was published by someone else")
	d.term()
}

// TestTheStreamIsLost: an operator deletes the stream while the daemon runs, and a server comes back empty. The
// daemon opens the pipeline again, and flushes.
func TestTheStreamIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	listen := freeAddr(t)
	theirs := r.external(listen, "nats", 4<<30)
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	purges := func(id int) {
		t.Helper()
		r.exec(fmt.Sprintf("INSERT INTO products (id, slug) VALUES (%[1]d, 's%[1]d')", id))
		r.fill([]string{fmt.Sprintf("product:%d", id)})
		r.exec(fmt.Sprintf("UPDATE products SET name = 'b' WHERE id = %d", id))
		eventually(t, 60*time.Second, func() bool { return len(r.held(fmt.Sprintf("product:%d", id))) == 0 }, "purged")
	}
	purges(1)
	r.fill([]string{"product:77"}) // was purged by a message that is lost now, for all that anyone knows

	nc, err := nats.Connect("nats://operator:" + edgeToken + "@" + listen)
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)

	// A message of a newer version is kept, not purged in part, and the status says so.
	r.fill([]string{"product:78", "product:79"})
	for _, item := range []string{`{"rule":"product","keys":["product:78"]}`, `{"rule":"product","keys":["product:79"],"colours":["red"]}`} {
		_, err = js.Publish(t.Context(), "walpurge.app.purge.cache", []byte(`{"v":1,"sink":"cache","origin":"wal","items":[`+item+`]}`))
		require.NoError(t, err)
	}
	eventually(t, 60*time.Second, func() bool { return strings.Contains(d.sink("cache").Error, "colours") }, "the status names it")
	require.Equal(t, []string{"product:79"}, r.held("product:78", "product:79"))
	require.NoError(t, js.DeleteStream(t.Context(), "walpurge_app"))
	nc.Close()
	eventually(t, 60*time.Second, func() bool { return len(r.held("product:77")) == 0 }, "the sinks are flushed")
	d.untilStreaming()
	purges(2)

	r.fill([]string{"product:77"})
	theirs.Close()
	theirs = r.external(listen, "empty", 4<<30)
	t.Cleanup(theirs.Close)
	eventually(t, 60*time.Second, func() bool { return len(r.held("product:77")) == 0 }, "the sinks are flushed again")
	d.untilStreaming()
	purges(3)
	d.wait(r.lsn(), 60*time.Second)
	d.term()
}

// TestStreamOfAnotherDatabase: two pipelines of one name on one NATS server would flush each other's caches for
// ever, so the one whose database the stream does not belong to is refused.
func TestStreamOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	listen := freeAddr(t)
	t.Cleanup(r.external(listen, "nats", 4<<30).Close)
	nc, err := nats.Connect("nats://operator:" + edgeToken + "@" + listen)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	theirs, err := stream.Open(t.Context(), nc, stream.Config{Pipeline: "app", MaxAge: time.Hour, MaxBytes: 64 << 20, Replicas: 1})
	require.NoError(t, err)
	production := stream.NewPublisher(theirs, watermark.NewBoard(), slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- production.Run(ctx) }()
	require.NoError(t, production.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: cdc.Position{SystemID: "7430112233445566778", Timeline: 1, LSN: 100}}, 0))
	const refused = "belongs to the database cluster with the system identifier 7430112233445566778"
	r.config(freeAddr(t))
	o := r.call("check")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stdout, refused)
	o = r.call("run")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, refused)
	require.Contains(t, o.stderr, "formerly: ")
	claim, _, _, err := theirs.LastClaim(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), claim.Epoch, "nothing was taken over")

	// Another database of the same cluster, such as that of staging.
	var system string
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT system_identifier::text FROM pg_control_system()").Scan(&system))
	_, seq, _, err := theirs.LastClaim(t.Context())
	require.NoError(t, err)
	require.NoError(t, production.Begin(t.Context(), cdc.Claim{Epoch: 2, Position: cdc.Position{SystemID: system, Timeline: 1, LSN: 100}, Database: 1}, seq))
	cancel()
	require.NoError(t, <-done)
	o = r.call("run")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, "belongs to the database with the OID 1, and postgres.url is that with the OID ")

	r.fill([]string{"product:77"})
	yaml("postgres:", "postgres:\n  formerly: "+system+"/1")(r)
	d := r.spawn(freeAddr(t), r.path("walpurge.yaml"), nil)
	eventually(t, 60*time.Second, func() bool { return len(r.held("product:77")) == 0 }, "the sinks are flushed")
	d.term()
}
