package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// natsMatrix are the servers that a pipeline's stream is tried on, by the name that the table in docs/install.md has.
// Each starts its servers and returns the settings of a daemon.
var natsMatrix = map[string]struct {
	start func(t *testing.T) config.NATS
	// least: the daemon's user has the rights that docs/security.md lists, and no others.
	least bool
}{
	"one server": {start: func(t *testing.T) config.NATS {
		return config.NATS{URL: fmt.Sprintf("nats://w:p@127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\n"+neededRights("$JS.API"))), Replicas: 1}
	}, least: true},
	"cluster of three": {start: func(t *testing.T) config.NATS {
		return config.NATS{URL: startNATSCluster(t, neededRights("$JS.API"), "w:p"), Replicas: 3}
	}, least: true},
	"accounts": {start: func(t *testing.T) config.NATS {
		return config.NATS{URL: fmt.Sprintf("nats://w:p@127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\n"+twoAccounts)), Replicas: 1}
	}},
	"cluster of three with accounts": {start: func(t *testing.T) config.NATS {
		return config.NATS{URL: startNATSCluster(t, twoAccounts, "w:p"), Replicas: 3}
	}},
	"credentials file": {start: func(t *testing.T) config.NATS {
		conf, credentials := operatorMode(t)
		return config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\n"+conf)), Replicas: 1, Credentials: credentials}
	}, least: true},
	"nkey": {start: func(t *testing.T) config.NATS {
		user, err := nkeys.CreateUser()
		require.NoError(t, err)
		public, err := user.PublicKey()
		require.NoError(t, err)
		seed, err := user.Seed()
		require.NoError(t, err)
		port := startNATS(t, "jetstream: {store_dir: $DIR}\nauthorization: {users: [{nkey: "+public+"}]}")
		return config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Replicas: 1, NkeyFile: writeFile(t, "nkey", string(seed)+"\n")}
	}},
	"TLS with a private CA": {start: func(t *testing.T) config.NATS {
		cert, key := tlsFiles(t)
		port := startNATS(t, fmt.Sprintf("jetstream: {store_dir: $DIR}\ntls: {cert_file: %q, key_file: %q}", cert, key))
		return config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Replicas: 1, CAFile: cert}
	}},
	"TLS first": {start: func(t *testing.T) config.NATS {
		cert, key := tlsFiles(t)
		port := startNATS(t, fmt.Sprintf("jetstream: {store_dir: $DIR}\ntls: {cert_file: %q, key_file: %q, handshake_first: true}", cert, key))
		return config.NATS{URL: fmt.Sprintf("tls://127.0.0.1:%d", port), Replicas: 1, CAFile: cert, HandshakeFirst: true}
	}},
	"client certificate": {start: func(t *testing.T) config.NATS {
		cert, key := tlsFiles(t)
		port := startNATS(t, fmt.Sprintf("jetstream: {store_dir: $DIR}\ntls: {cert_file: %q, key_file: %q, ca_file: %[1]q, verify: true}", cert, key))
		return config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Replicas: 1, CAFile: cert, CertFile: cert, KeyFile: key}
	}},
	"domain": {start: func(t *testing.T) config.NATS {
		port := startNATS(t, "jetstream: {store_dir: $DIR, domain: hub}\n"+neededRights("$JS.API"))
		cfg := config.NATS{URL: fmt.Sprintf("nats://w:p@127.0.0.1:%d", port), Replicas: 1, Domain: "hub"}
		var c checker
		c.listener(&config.Config{Pipeline: "shop", NATS: cfg, Sinks: []config.Sink{{Name: "cache"}}}, CheckOptions{Listener: fmt.Sprintf("nats://listener:p@127.0.0.1:%d", port)})
		require.Empty(t, c.findings, "a listener that may do nothing but listen")
		return cfg
	}, least: true},
	"domain behind a leaf node": {start: func(t *testing.T) config.NATS {
		leaves := freePort(t)
		startNATS(t, fmt.Sprintf("jetstream: {store_dir: $DIR, domain: hub}\nleafnodes: {listen: \"127.0.0.1:%d\"}", leaves))
		leaf := startNATS(t, fmt.Sprintf("server_name: leaf\njetstream: {store_dir: $DIR, domain: leaf}\nleafnodes: {remotes: [{url: \"nats://127.0.0.1:%d\"}]}\n%s", leaves, neededRights("$JS.hub.API")))
		return config.NATS{URL: fmt.Sprintf("nats://w:p@127.0.0.1:%d", leaf), Replicas: 1, Domain: "hub"}
	}, least: true},
}

// TestNATSMatrix opens a pipeline's stream on each kind of server as the daemon does, and takes a claim, a batch and a manual
// purge through it, after `check` found nothing wrong.
func TestNATSMatrix(t *testing.T) {
	for name, cell := range natsMatrix {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := &config.Config{Pipeline: "shop", NATS: cell.start(t), Stream: config.Stream{MaxBytes: 8 << 20}}
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				if found := storeFindings(t, cfg.NATS, cfg.Stream.MaxBytes); found != "" {
					c.Errorf("%s", found)
				}
			}, 30*time.Second, 100*time.Millisecond, "a cluster may have no leader yet")
			var c checker
			c.store(t.Context(), cfg)
			require.Equal(t, cell.least, !strings.Contains(texts(c.findings, true), "the daemon's user may"), texts(c.findings, true))
			quiet := slog.New(slog.DiscardHandler)
			reported := newNATSErrors(cfg.NATS.URL, quiet)
			_, nc, err := connectNATS(cfg, quiet, reported)
			require.NoError(t, err)
			defer nc.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			s, err := stream.Open(ctx, nc, stream.Config{Pipeline: "shop", Domain: cfg.NATS.Domain, MaxAge: time.Hour, MaxBytes: cfg.Stream.MaxBytes, Replicas: cfg.NATS.Replicas})
			require.NoError(t, err)
			p := stream.NewPublisher(s, watermark.NewBoard(watermark.Mark{Stage: watermark.Published}), quiet)
			running, stop := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() { done <- p.Run(running) }()
			require.NoError(t, p.Begin(ctx, cdc.Claim{Epoch: 1, Position: cdc.Position{SystemID: "7571", Timeline: 1, LSN: 10}}, 0))
			batch := &invalidation.Batch{Sink: "cache", Items: []invalidation.Item{{Rule: "product"}}}
			batch.Items[0].Values[invalidation.Key] = []string{"product:7"}
			require.NoError(t, p.Publish(ctx, batch))
			require.NoError(t, p.Flushed(ctx))
			manual := &invalidation.Batch{Sink: "cache", Items: []invalidation.Item{{Rule: "by_hand"}}}
			manual.Items[0].Values[invalidation.Key] = []string{"product:8"}
			require.NoError(t, s.PublishManual(ctx, manual))
			require.NoError(t, s.SetPause(ctx, "cache", time.Time{}))
			_, paused, err := s.Paused(ctx, "cache", time.Now())
			require.NoError(t, err)
			require.True(t, paused)
			queue, err := s.Consumer(ctx, "cache", "", quiet)
			require.NoError(t, err)
			byHand, err := s.ManualConsumer(ctx, "cache", quiet)
			require.NoError(t, err)
			for want, c := range map[string]interface {
				Next(context.Context) (invalidation.Message, error)
				Ack(seq uint64) error
				Close()
			}{"product:7": queue, "product:8": byHand} {
				m, err := c.Next(ctx)
				for err == nil && m.Batch == nil {
					m, err = c.Next(ctx)
				}
				require.NoError(t, err)
				require.Equal(t, []string{want}, m.Batch.Items[0].Values[invalidation.Key])
				require.NoError(t, c.Ack(m.Seq))
				c.Close()
			}
			require.Empty(t, reported.denial())
			require.NoError(t, nc.Flush())
			stop()
			require.NoError(t, <-done)
		})
	}
}

// neededRights is a user with the rights of docs/security.md and no others, for JetStream's API at a prefix.
func neededRights(api string) string {
	publish, subscribe := stream.Permissions("shop")
	for i, subject := range publish {
		publish[i] = strings.Replace(subject, "$JS.API", api, 1)
	}
	return fmt.Sprintf(`authorization: {users: [{user: w, password: p, permissions: {publish: {allow: %s}, subscribe: %s}},
		{user: listener, password: p, permissions: {publish: {deny: ">"}, subscribe: {allow: "walpurge.shop.purged.>"}}}]}`, quoted(publish), quoted(subscribe))
}

// twoAccounts are an account with just the limits that a pipeline needs, and another one with a user of other rights.
const twoAccounts = `accounts: {
	SHOP: {jetstream: {max_streams: 4, max_file: 64M, max_consumers: 100}, users: [{user: w, password: p}]}
	OTHER: {jetstream: {max_file: 64M}, users: [{user: other, password: p}]}
}`

// startNATSCluster starts three servers in one cluster and returns their addresses.
func startNATSCluster(t *testing.T, conf, user string) string {
	routes := []int{freePort(t), freePort(t), freePort(t)}
	var all []string
	for i, own := range routes {
		var others []string
		for n, port := range routes {
			if n != i {
				others = append(others, fmt.Sprintf("nats://127.0.0.1:%d", port))
			}
		}
		port := startNATS(t, fmt.Sprintf("server_name: n%d\njetstream: {store_dir: $DIR}\ncluster: {name: c, listen: \"127.0.0.1:%d\", routes: %s}\n%s", i, own, quoted(others), conf))
		all = append(all, fmt.Sprintf("nats://%s@127.0.0.1:%d", user, port))
	}
	return strings.Join(all, ",")
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func writeFile(t *testing.T, name, text string) string {
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// tlsFiles are a certificate of 127.0.0.1 that signs itself, which is its own authority, and its key.
func tlsFiles(t *testing.T) (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "nats"}}, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return writeFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})))
}

// operatorMode is a server whose accounts and users are JWTs of an operator, and the credentials file of a user.
func operatorMode(t *testing.T) (conf, credentials string) {
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		key, err := create()
		require.NoError(t, err)
		public, err := key.PublicKey()
		require.NoError(t, err)
		return key, public
	}
	operator, operatorID := pair(nkeys.CreateOperator)
	account, accountID := pair(nkeys.CreateAccount)
	_, systemID := pair(nkeys.CreateAccount)
	user, userID := pair(nkeys.CreateUser)
	sign := func(claims jwt.Claims, key nkeys.KeyPair) string {
		text, err := claims.Encode(key)
		require.NoError(t, err)
		return text
	}
	limited := jwt.NewAccountClaims(accountID)
	limited.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: 64 << 20, Streams: 4, Consumer: 100}
	trusted := jwt.NewOperatorClaims(operatorID)
	trusted.SystemAccount = systemID
	seed, err := user.Seed()
	require.NoError(t, err)
	publish, subscribe := stream.Permissions("shop")
	daemon := jwt.NewUserClaims(userID)
	daemon.Permissions.Pub.Allow, daemon.Permissions.Sub.Allow = publish, subscribe
	decorated, err := jwt.FormatUserConfig(sign(daemon, account), seed)
	require.NoError(t, err)
	conf = fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {%s: %s, %s: %s}", sign(trusted, operator), systemID,
		accountID, sign(limited, operator), systemID, sign(jwt.NewAccountClaims(systemID), operator))
	return conf, writeFile(t, "daemon.creds", string(decorated))
}
