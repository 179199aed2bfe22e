package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/readfile"
)

// pgxParameters are options of pgx itself, which it takes out of a connection string.
var pgxParameters = []string{"default_query_exec_mode", "description_cache_capacity", "statement_cache_capacity"}

// parse reads the connection string, and refuses parameters that libpq does not have. What
// target_session_attrs asks for is in ValidateConnect.
func (c Config) parse() (*pgx.ConnConfig, error) {
	if err := checkFiles(c.URL); err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(c.URL)
	if err == nil && cfg.RuntimeParams["hostaddr"] != "" && strings.HasPrefix(cfg.Host, "/") {
		cfg, err = pgx.ParseConfig(withHost(c.URL, cfg.RuntimeParams["hostaddr"]))
	}
	if err != nil {
		return nil, unparsable(c.URL, err)
	}
	if path, _, _ := strings.Cut(c.URL, "?"); strings.Contains(path, "://") && display.Misread(path) || strings.Contains(cfg.Host, "@") {
		return nil, unparsable(c.URL, nil)
	}
	for _, name := range pgxParameters {
		if strings.Contains(c.URL, name) {
			cfg.RuntimeParams[name] = ""
		}
	}
	if err := applyParameters(&cfg.Config); err != nil {
		// An @ behind the ? is how a password looks that is not percent-encoded.
		if _, query, ok := strings.Cut(c.URL, "?"); ok && strings.Contains(query, "@") || strings.Contains(err.Error(), "://") {
			return nil, unparsable(c.URL, err)
		}
		return nil, err
	}
	if c.PasswordFile != "" {
		b, err := readfile.Read(c.PasswordFile, readfile.MaxSecret)
		if err != nil {
			return nil, fmt.Errorf("postgres.password_file: %w", err)
		}
		cfg.Password = string(bytes.TrimRight(b, "\r\n"))
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "walpurge"
	}
	return cfg, nil
}

// primary reads the connection string of the primary.
func (c Config) primary() (*pgx.ConnConfig, error) {
	cfg, err := c.parse()
	if err != nil {
		return nil, err
	}
	if wantsStandby(cfg.ValidateConnect) {
		return nil, errors.New("postgres.url: target_session_attrs asks for a standby or a read-only server, and changes are read from the primary; write read-write or primary, or remove it")
	}
	cfg.ValidateConnect = validatePrimary
	return cfg, nil
}

// unparsable says why a URL cannot be used. A URL that is broken may have a part of its password anywhere, so
// what is said of one with a password is not repeated, and neither is what quotes a URL.
func unparsable(url string, err error) error {
	if err == nil || strings.Contains(url, "@") || strings.Contains(url, "password") || strings.Contains(err.Error(), "://") {
		return errors.New("postgres.url cannot be parsed (not shown, it may hold a password): write postgres://USER@HOST:PORT/DATABASE, " +
			"percent-encode special characters of a password or put it into postgres.password_file, and check the options after `?`")
	}
	return fmt.Errorf("postgres.url: %w", display.Redact(err, url))
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
	cfg, err := c.primary()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, c.explain(err)
	}
	return conn, nil
}

// ConnectReading opens an ordinary connection to the primary for SQL that the user wrote. It
// can change nothing.
func (c Config) ConnectReading(ctx context.Context) (*pgx.Conn, error) {
	conn, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET "+userPath(conn.Config())+"; SET default_transaction_read_only = on"); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the error at hand says why
		return nil, fmt.Errorf("make the connection read-only: %w", err)
	}
	return conn, nil
}

// connectReplication opens a connection to a walsender. The reader returned is
// the one that the connection's own protocol code reads from: bytes must be
// taken from it and from nowhere else, since pgconn may have read ahead into it.
func (c Config) connectReplication(ctx context.Context) (*pgconn.PgConn, *handshakeReader, error) {
	full, err := c.primary()
	if err != nil {
		return nil, nil, err
	}
	cfg := &full.Config
	cfg.RuntimeParams["replication"] = "database"
	var hr *handshakeReader
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		hr = &handshakeReader{r: r}
		return pgproto3.NewFrontend(hr, w)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, nil, c.explain(err)
	}
	if _, err := conn.Exec(ctx, "SET wal_sender_timeout = '"+senderTimeout+"'").ReadAll(); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the error at hand says why
		return nil, nil, fmt.Errorf("set wal_sender_timeout: %w", err)
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
