package embedded

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/condition"
)

// Config places the server.
type Config struct {
	// Dir holds the store. Two servers never share one.
	Dir string
	// Listen is an address for applications that listen for purges, empty for none. With it,
	// TokenFile holds the token that they must present, and Announced is the subject with
	// everything that they may subscribe to.
	Listen    string
	TokenFile string
	Announced string
	// MaxStore bounds the disk, in bytes. Where the streams of an earlier run reserve or
	// hold more, that is the bound until the next start: the server would refuse every change of
	// their limits, lower ones included, and every message.
	MaxStore int64
}

// Server is a running NATS server with JetStream.
type Server struct {
	cfg   Config
	lock  *os.File
	ns    *server.Server
	store *store
	// listeners is nil without an address for them.
	listeners *listeners
	// conditions is where the server's own log goes.
	conditions *condition.Log
}

// Start locks the directory and runs a server on it. It returns when the server
// takes connections; everything stored before is there again.
func Start(cfg Config, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("data_dir: %w; create it and give it to the user of the daemon", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock, store: newStore(storeDir(cfg.Dir)), conditions: condition.NewLog(log)}
	if err = repair(s.store.root, log); err == nil {
		err = s.start(log)
	}
	if err == nil && cfg.Listen != "" {
		if err = s.listen(log); err != nil {
			s.shutdown()
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// storeDir is where a server keeps its streams.
func storeDir(dir string) string { return filepath.Join(dir, "jetstream") }

// listen opens the port for listeners.
func (s *Server) listen(log *slog.Logger) error {
	from, err := s.Connect()
	if err != nil {
		return err
	}
	if s.listeners, err = listen(s.cfg, from, log, s.conditions); err != nil {
		from.Close()
	}
	return err
}

func (s *Server) start(log *slog.Logger) error {
	ns, err := server.NewServer(&server.Options{
		ServerName:             "walpurge",
		JetStream:              true,
		StoreDir:               s.cfg.Dir,
		JetStreamMaxMemory:     8 << 20,
		JetStreamMaxStore:      max(s.cfg.MaxStore, s.store.claimed()),
		MaxPayload:             4 << 20,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		DontListen:             true,
	})
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	logs := &logger{log: log, conditions: s.conditions}
	ns.SetLoggerV2(logs, false, false, false)
	// Start returns when it has recovered the store, which takes as long as it
	// takes, or has failed.
	ns.Start()
	if !ns.ReadyForConnections(time.Second) {
		ns.Shutdown()
		ns.WaitForShutdown()
		return fmt.Errorf("embedded NATS server did not start on %s: %s", s.cfg.Dir, logs.lastError())
	}
	s.ns = ns
	return nil
}

// Connect returns a connection that does not leave the process.
func (s *Server) Connect() (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(s.ns), nats.Name("walpurge"), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

func (s *Server) shutdown() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// Sync blocks until everything that was acknowledged before the call is on
// disk. After an error nothing may be taken as durable any more.
func (s *Server) Sync() error { return s.store.sync() }

// Close stops the server, waits for it, and unlocks the directory.
func (s *Server) Close() {
	if s.listeners != nil {
		s.listeners.close()
	}
	s.shutdown()
	s.conditions.Close()
	s.lock.Close()
}
