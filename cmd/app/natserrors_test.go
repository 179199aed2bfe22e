package app

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
)

// startNATS starts a server with a configuration file and returns its port.
func startNATS(t *testing.T, conf string) (port int) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "nats.conf")
	text := "listen: \"127.0.0.1:-1\"\n" + strings.ReplaceAll(conf, "$DIR", filepath.Join(dir, "js"))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err, text)
	opts.NoLog, opts.NoSigs = true, true
	ns, err := server.NewServer(opts)
	require.NoError(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	require.Eventually(t, func() bool { return ns.Addr() != nil }, 30*time.Second, 5*time.Millisecond)
	return ns.Addr().(*net.TCPAddr).Port
}

// quoted lists subjects as a NATS configuration has them.
func quoted(subjects []string) string { return `["` + strings.Join(subjects, `", "`) + `"]` }

func storeFindings(t *testing.T, cfg config.NATS, maxBytes int64) string {
	t.Helper()
	var c checker
	c.store(t.Context(), &config.Config{Pipeline: "shop", NATS: cfg, Stream: config.Stream{MaxBytes: maxBytes}})
	return texts(c.findings, false)
}

// texts are the findings, or the notes.
func texts(findings []Finding, notes bool) string {
	var all []string
	for _, f := range findings {
		if f.Note == notes {
			all = append(all, f.Text)
		}
	}
	return strings.Join(all, "\n")
}

// TestCheckTriesRightsOfNATSUsers: what the daemon's user may do beyond its needs is noted, and what the user of listeners may do
// but listen is a finding. No try leaves or changes anything in the streams of the pipeline.
func TestCheckTriesRightsOfNATSUsers(t *testing.T) {
	publish, subscribe := stream.Permissions("shop")
	user := func(name string, publish, deny, subscribe []string) string {
		return fmt.Sprintf("{user: %s, password: p, permissions: {publish: {allow: %s, deny: %s}, subscribe: %s}}", name, quoted(publish), quoted(deny), quoted(subscribe))
	}
	all, none, purged := []string{">"}, []string{"none"}, []string{"walpurge.shop.purged.>"}
	port := startNATS(t, "jetstream: {store_dir: $DIR}\nauthorization: {users: ["+strings.Join([]string{
		user("needed", publish, none, subscribe), "{user: everything, password: p}", user("pipelines", append([]string{"walpurge.>"}, publish...), none, subscribe),
		user("streams", append([]string{"$JS.API.>"}, publish...), none, subscribe), user("reader", publish, none, append([]string{"walpurge.>"}, subscribe...)),
		user("listener", none, all, purged), user("forger", []string{"walpurge.shop.progress"}, none, purged), user("purger", []string{"walpurge.shop.hand.cache"}, none, purged),
		user("deleter", []string{"$JS.API.STREAM.DELETE.*"}, none, purged), user("acker", []string{"$JS.ACK.>"}, none, purged), user("spy", none, all, []string{"walpurge.shop.>"}),
		user("deaf", none, all, []string{"walpurge.other.>"}), user("announcer", []string{"walpurge.shop.purged.>"}, none, purged),
	}, ", ")+"]}")
	at := func(user string) string { return fmt.Sprintf("nats://%s:p@127.0.0.1:%d", user, port) }
	nc, err := nats.Connect(at("everything"))
	require.NoError(t, err)
	defer nc.Close()
	_, err = stream.Open(t.Context(), nc, stream.Config{Pipeline: "shop", MaxBytes: 8 << 20, Replicas: 1})
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "walpurge.shop.purge.cache", []byte("kept"))
	require.NoError(t, err)
	stored := func() (out []uint64) {
		for _, name := range []string{"walpurge_shop", "walpurge_shop_parked", "walpurge_shop_hand"} {
			st, err := js.Stream(t.Context(), name)
			require.NoError(t, err)
			out = append(out, st.CachedInfo().State.Msgs, st.CachedInfo().State.LastSeq, uint64(st.CachedInfo().State.Consumers))
		}
		return out
	}
	before := stored()
	for user, says := range map[string]string{
		"needed": "", "everything": "publish to any subject and to subscribe to any subject", "pipelines": "publish to subjects of other pipelines, which",
		"streams": "publish to $JS.API.STREAM.INFO.* of other streams, $JS.API.STREAM.DELETE.* of other streams, $JS.API.STREAM.NAMES, which", "reader": "subscribe to subjects of other pipelines, which",
	} {
		var c checker
		c.store(t.Context(), &config.Config{Pipeline: "shop", NATS: config.NATS{URL: at(user), Replicas: 1}, Stream: config.Stream{MaxBytes: 8 << 20}})
		require.Empty(t, texts(c.findings, false), user)
		notes := texts(c.findings, true)
		require.Equal(t, says != "", notes != "", "%s: %s", user, notes)
		require.Contains(t, notes, says, user)
	}
	for user, says := range map[string]string{
		"listener": "", "forger": "may publish to walpurge.shop.progress; allow it", "purger": "may publish to walpurge.shop.hand.cache;", "deleter": "may publish to $JS.API.STREAM.DELETE.walpurge_shop and 3 more subjects",
		"acker": "may publish to $JS.ACK.walpurge_shop.probe and 2 more", "spy": "may subscribe to walpurge.shop.purge.probe and 3 more", "deaf": "may not subscribe to walpurge.shop.purged.>", "announcer": "may publish to walpurge.shop.purged.probe and 1 more",
		"everything": "may publish to walpurge.shop.purge.probe and", "unknown": "the listener's user: nats.url: nats: Authorization Violation",
	} {
		var c checker
		c.listener(&config.Config{Pipeline: "shop", NATS: config.NATS{URL: at("needed")}, Sinks: []config.Sink{{Name: "cache"}}}, CheckOptions{Listener: at(user)})
		found := texts(c.findings, false)
		require.Equal(t, says != "", found != "", "%s: %s", user, found)
		require.Contains(t, found, says, user)
		require.NotContains(t, found, ":p@")
	}
	require.Equal(t, before, stored())
}

// check tries what run needs, and says which right or limit is missing.
func TestCheckTriesNATS(t *testing.T) {
	publish, subscribe := stream.Permissions("shop")
	user := func(publish, deny, subscribe []string) string {
		return fmt.Sprintf("jetstream: {store_dir: $DIR}\nauthorization: {users: [{user: w, password: p, permissions: {publish: {allow: %s, deny: %s}, subscribe: %s}}]}",
			quoted(publish), quoted(deny), quoted(subscribe))
	}
	account := func(limits string) string {
		return "jetstream: {store_dir: $DIR}\naccounts: {SHOP: {jetstream: {" + limits + "}, users: [{user: w, password: p}]}}"
	}
	const mib = 1 << 20
	for name, c := range map[string]struct {
		conf     string
		replicas int
		bytes    int64
		says     string // empty: fine
	}{
		"the rights of security.md": {conf: user(publish, []string{"none"}, subscribe)},
		"no API":                    {conf: user([]string{"walpurge.shop.>"}, []string{"none"}, subscribe), says: `publish: {allow: ["$JS.API.STREAM.INFO.walpurge_shop"]}`},
		"no acknowledgements":       {conf: user(publish, []string{"$JS.ACK.>"}, subscribe), says: `nats: acknowledge: the user may not publish to`},
		"no pulls":                  {conf: user(publish, []string{"$JS.API.CONSUMER.MSG.NEXT.>"}, subscribe), says: `nats: consume: the user may not publish to $JS.API.CONSUMER.MSG.NEXT.walpurge_shop_check.check`},
		"no consumers":              {conf: user(publish, []string{"$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DURABLE.CREATE.>"}, subscribe), says: `nats: create a consumer: the user may not publish to $JS.API.CONSUMER.`},
		"no deleting":               {conf: user(publish, []string{"$JS.API.STREAM.DELETE.>"}, subscribe), says: `$JS.API.STREAM.DELETE.walpurge_shop_check`},
		"no publishing":             {conf: user(publish, []string{"walpurge.>"}, subscribe), says: `publish: {allow: ["walpurge.shop.>"]}`},
		"no answers":                {conf: user(publish, []string{"none"}, []string{"walpurge.>"}), says: `subscribe: {allow: ["_INBOX.>"]}`},
		"three replicas on one":     {conf: account("max_file: 1G"), replicas: 3, says: "nats.replicas: 3; set it to 1 for a single server"},
		"JetStream off":             {conf: "authorization: {users: [{user: w, password: p}]}", says: "JetStream is off: start the server with -js"},
		"JetStream off in the account": {
			conf: "jetstream: {store_dir: $DIR}\naccounts: {SHOP: {users: [{user: w, password: p}]}}", says: "JetStream is off: start the server with -js, or enable it for the account"},
		"two streams":   {conf: account("max_streams: 2"), says: "the account has 0 of at most 2 streams, and the pipeline needs 3 more; raise its max_streams"},
		"three streams": {conf: account("max_streams: 3")},
		"little room":   {conf: account("max_file: 100M"), bytes: 2048 * mib, says: "raise the account's max_file"},
		"a little server": {
			conf: "jetstream: {store_dir: $DIR, max_file_store: 100M}\nauthorization: {users: [{user: w, password: p}]}", bytes: 2048 * mib, says: "raise the account's max_file or the server's max_file_store"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := fmt.Sprintf("nats://w:p@127.0.0.1:%d", startNATS(t, c.conf))
			found := storeFindings(t, config.NATS{URL: at, Replicas: max(1, c.replicas)}, max(8*mib, c.bytes))
			if c.says == "" {
				require.Empty(t, found)
				require.Empty(t, storeFindings(t, config.NATS{URL: at, Replicas: 1}, 8*mib), "the scratch stream is gone")
				return
			}
			require.Contains(t, found, c.says)
			require.NotContains(t, found, ":p@")
		})
	}
}

// A pipeline that has its streams needs no room for another one.
func TestCheckOfARunningPipelineNeedsNoRoom(t *testing.T) {
	at := fmt.Sprintf("nats://w:p@127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\naccounts: {SHOP: {jetstream: {max_streams: 3, max_file: 10700000}, users: [{user: w, password: p}]}}"))
	nc, err := nats.Connect(at)
	require.NoError(t, err)
	defer nc.Close()
	_, err = stream.Open(t.Context(), nc, stream.Config{Pipeline: "shop", MaxBytes: 8 << 20, Replicas: 1})
	require.NoError(t, err)
	require.Empty(t, storeFindings(t, config.NATS{URL: at, Replicas: 1}, 8<<20))
}

func TestNATSDomainNkeyAndHandshake(t *testing.T) {
	// The example of NATS's own documentation.
	const seed, public = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	ca, keyFile := tlsFiles(t)
	tls := fmt.Sprintf("tls: {cert_file: %q, key_file: %q, handshake_first: ", ca, keyFile)

	first := startNATS(t, "jetstream: {store_dir: $DIR, domain: hub}\nauthorization: {users: [{nkey: "+public+"}]}\n"+tls+"true}")
	at := fmt.Sprintf("nats://127.0.0.1:%d", first)
	nkey := writeFile(t, "nkey", seed+"\n")
	full := config.NATS{URL: at, Replicas: 1, NkeyFile: nkey, CAFile: ca, HandshakeFirst: true, Domain: "hub"}
	require.Empty(t, storeFindings(t, full, 8<<20))

	for says, change := range map[string]func(*config.NATS){
		"set nats.tls.handshake_first: true":             func(c *config.NATS) { c.HandshakeFirst = false },
		"check nats.credentials, nats.nkey_file":         func(c *config.NATS) { c.NkeyFile = "" },
		"nats.nkey_file: open":                           func(c *config.NATS) { c.NkeyFile = "/nowhere/seed" },
		"the file must hold the seed of the user's nkey": func(c *config.NATS) { c.NkeyFile = ca },
		"set nats.tls.ca_file":                           func(c *config.NATS) { c.CAFile = "" },
		`or nats.domain is not "spoke"`:                  func(c *config.NATS) { c.Domain = "spoke" },
	} {
		c := full
		change(&c)
		require.Contains(t, storeFindings(t, c, 8<<20), says)
	}
	plain := config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\n"+tls+"false}")), Replicas: 1, CAFile: ca}
	require.Empty(t, storeFindings(t, plain, 8<<20))
	plain.HandshakeFirst = true
	require.Contains(t, storeFindings(t, plain, 8<<20), "take out nats.tls.handshake_first")
}

// What the server refuses the user later on is in our log and status, and not on standard error.
func TestDeniedSubjectsAreReported(t *testing.T) {
	at := fmt.Sprintf("nats://w:p@127.0.0.1:%d", startNATS(t, `authorization: {users: [{user: w, password: p, permissions: {publish: {deny: "$JS.ACK.>"}}}]}`))
	var log bytes.Buffer
	reported := newNATSErrors("", slog.New(slog.NewJSONHandler(&log, nil)))
	_, nc, err := connectNATS(&config.Config{Pipeline: "shop", NATS: config.NATS{URL: at}}, slog.New(slog.DiscardHandler), reported)
	require.NoError(t, err)
	defer nc.Close()
	require.Empty(t, reported.denial())
	require.NoError(t, nc.Publish("$JS.ACK.walpurge_shop.cache.1.1.1.1.0", []byte("+ACK")))
	require.Equal(t, "$JS.ACK.walpurge_shop.cache.1.1.1.1.0", (<-reported.denied).Subject)
	require.Equal(t, `the user may not publish to $JS.ACK.walpurge_shop.cache.1.1.1.1.0; grant it in the user's permissions, publish: {allow: ["$JS.ACK.walpurge_shop.>"]}`, reported.denial())
	reported.conditions.Close()
	require.Contains(t, log.String(), natsDenied.On)
}

// Operators set where a stream is and how it is stored.
func TestOperatorsSettingsOfStreamsAreKept(t *testing.T) {
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\nserver_tags: [ssd]")))
	require.NoError(t, err)
	defer nc.Close()
	open := func(maxBytes int64) {
		_, err := stream.Open(t.Context(), nc, stream.Config{Pipeline: "shop", MaxBytes: maxBytes, Replicas: 1})
		require.NoError(t, err)
	}
	open(8 << 20)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	names := []string{"walpurge_shop", "walpurge_shop_parked", "walpurge_shop_hand"}
	for _, name := range names {
		st, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		cfg := st.CachedInfo().Config
		cfg.Description, cfg.Compression, cfg.Placement = "of the shop team", jetstream.S2Compression, &jetstream.Placement{Tags: []string{"ssd"}}
		cfg.Metadata["team"] = "shop"
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
	}
	open(16 << 20)
	for _, name := range names {
		st, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		cfg := st.CachedInfo().Config
		require.Equal(t, "of the shop team", cfg.Description)
		require.Equal(t, jetstream.S2Compression, cfg.Compression)
		require.Equal(t, []string{"ssd"}, cfg.Placement.Tags)
		require.Equal(t, "shop", cfg.Metadata["team"])
	}
}
