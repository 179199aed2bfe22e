package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/condition"
)

// Config places the server.
type Config struct {
	// Dir holds the store. Two servers never share one.
	Dir string
	// Listen is an address for other clients, empty for none. With it,
	// TokenFile holds the token that they must present.
	Listen    string
	TokenFile string
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
	s := &Server{cfg: cfg, lock: lock, store: newStore(filepath.Join(cfg.Dir, "jetstream")), conditions: condition.NewLog(log)}
	opts, err := s.options()
	if err == nil {
		err = mend(s.store.root, log)
	}
	if err == nil {
		opts.JetStreamMaxStore = max(cfg.MaxStore, s.store.claimed())
	}
	if err == nil {
		err = s.start(opts, log)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) options() (*server.Options, error) {
	opts := &server.Options{
		ServerName:             "walpurge",
		JetStream:              true,
		StoreDir:               s.cfg.Dir,
		JetStreamMaxMemory:     8 << 20,
		MaxPayload:             4 << 20,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		DontListen:             s.cfg.Listen == "",
	}
	if s.cfg.Listen == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("nats.listen %q: %w", s.cfg.Listen, err)
	}
	opts.Host = host
	if opts.Port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("nats.listen %q: port: %w", s.cfg.Listen, err)
	}
	if s.cfg.TokenFile == "" {
		return nil, errors.New("nats.listen needs nats.token_file: whoever can publish can purge")
	}
	token, err := os.ReadFile(s.cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("nats.token_file: %w", err)
	}
	if opts.Authorization = string(bytes.TrimSpace(token)); opts.Authorization == "" {
		return nil, fmt.Errorf("nats.token_file: %s is empty; write a token into it: whoever can publish can purge", s.cfg.TokenFile)
	}
	return opts, nil
}

func (s *Server) start(opts *server.Options, log *slog.Logger) error {
	ns, err := server.NewServer(opts)
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
	opts := []nats.Option{nats.InProcessServer(s.ns), nats.Name("walpurge"), nats.MaxReconnects(-1)}
	if s.cfg.TokenFile != "" {
		token, err := os.ReadFile(s.cfg.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("nats.token_file: %w", err)
		}
		opts = append(opts, nats.Token(string(bytes.TrimSpace(token))))
	}
	nc, err := nats.Connect("", opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// Sync blocks until everything that was acknowledged before the call is on
// disk. After an error nothing may be taken as durable any more.
func (s *Server) Sync() error { return s.store.sync() }

// Close stops the server, waits for it, and unlocks the directory.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	s.conditions.Close()
	s.lock.Close()
}
