package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pins make the text of every value independent of the server's settings; a
// walsender writes rows under the settings of its session.
var pins = map[string]string{
	"DateStyle":          "ISO",
	"TimeZone":           "UTC",
	"IntervalStyle":      "postgres",
	"extra_float_digits": "1",
	"bytea_output":       "hex",
	"client_encoding":    "UTF8",
}

// senderTimeout is how soon the server gives up on a reader that went silent,
// and with it how soon a standby can take over the slot.
const senderTimeout = "10s"

func (c Config) parse() (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, unparsable(c.URL, err)
	}
	if c.PasswordFile != "" {
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("postgres.password_file: %w", err)
		}
		cfg.Password = string(bytes.TrimRight(b, "\r\n"))
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "walpurge"
	}
	return cfg, nil
}

// unparsable says why a URL cannot be used. A URL that is broken may have a
// part of its password anywhere, so one with a password is not quoted.
func unparsable(url string, err error) error {
	if strings.Contains(url, "@") || strings.Contains(url, "password") {
		return errors.New("postgres.url cannot be parsed (not shown, it may hold a password): write postgres://USER@HOST:PORT/DATABASE, " +
			"percent-encode special characters of a password or put it into postgres.password_file, and check the options after `?`")
	}
	return fmt.Errorf("postgres.url: %w", err)
}

// Address returns host, port and database for messages; never a secret.
func (c Config) Address() string {
	cfg, err := c.parse()
	if err != nil {
		return "the database"
	}
	return fmt.Sprintf("%s:%d/%s", cfg.Host, cfg.Port, cfg.Database)
}

// Connect opens an ordinary connection to the primary.
func (c Config) Connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := c.parse()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, c.explain(err)
	}
	return conn, nil
}

// ConnectReading opens an ordinary connection to the primary that can change
// nothing, and on which values print as they do in the stream.
func (c Config) ConnectReading(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := c.parse()
	if err != nil {
		return nil, err
	}
	maps.Copy(cfg.RuntimeParams, pins)
	cfg.RuntimeParams["standard_conforming_strings"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, c.explain(err)
	}
	// Not among the parameters above: a server is known for the primary by being
	// read-write.
	if _, err := conn.Exec(ctx, "SET default_transaction_read_only = on"); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the error at hand says why
		return nil, fmt.Errorf("make the connection read-only: %w", err)
	}
	return conn, nil
}

// connectReplication opens a connection to a walsender. The reader returned is
// the one that the connection's own protocol code reads from: bytes must be
// taken from it and from nowhere else, since pgconn may have read ahead into it.
func (c Config) connectReplication(ctx context.Context) (*pgconn.PgConn, *handshakeReader, error) {
	full, err := c.parse()
	if err != nil {
		return nil, nil, err
	}
	cfg := &full.Config
	maps.Copy(cfg.RuntimeParams, pins)
	cfg.RuntimeParams["replication"] = "database"
	cfg.RuntimeParams["wal_sender_timeout"] = senderTimeout
	// A turn moves the slot by a statement, which reads as much of the log as there is.
	cfg.RuntimeParams["statement_timeout"] = "0"
	var hr *handshakeReader
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		hr = &handshakeReader{r: r}
		return pgproto3.NewFrontend(hr, w)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, nil, c.explain(err)
	}
	return conn, hr, nil
}

// handshakeReader lets the protocol code read no further than the message that
// it is reading, so that nothing of the replication stream ends up in its
// buffer: from careful on, each Read returns one byte, and what the protocol
// code asks for in full (header, then body) is all it gets.
type handshakeReader struct {
	r       io.Reader
	careful bool
}

func (h *handshakeReader) Read(p []byte) (int, error) {
	if h.careful && len(p) > 1 {
		p = p[:1]
	}
	return h.r.Read(p)
}
