package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/cmd/config"
)

// secretFile is a setting that names a file with a secret in it.
type secretFile struct{ key, path string }

// secretFiles lists the settings of a configuration that name files with secrets.
func secretFiles(cfg *config.Config) []secretFile {
	files := []secretFile{
		{"postgres.password_file", cfg.Postgres.PasswordFile}, {"nats.credentials", cfg.NATS.Credentials}, {"nats.nkey_file", cfg.NATS.NkeyFile},
		{"nats.tls.key_file", cfg.NATS.KeyFile}, {"nats.token_file", cfg.NATS.TokenFile}, {"http.token_file", cfg.HTTP.TokenFile},
	}
	for _, s := range cfg.Sinks {
		for _, f := range s.Config.Traits().SecretFiles {
			files = append(files, secretFile{"sinks." + s.Name + "." + s.Kind() + "." + f.Key, f.Path})
		}
	}
	return files
}

// certificateFiles lists the settings of the connection to NATS that name files with certificates. Those of sinks are read by the checks of the sinks.
func certificateFiles(cfg *config.Config) []secretFile {
	return []secretFile{{"nats.tls.ca_file", cfg.NATS.CAFile}, {"nats.tls.cert_file", cfg.NATS.CertFile}}
}

// secrets finds files with secrets and certificates that cannot be read, and notes those secrets that every user of the machine may read.
func (c *checker) secrets(cfg *config.Config) {
	for _, f := range secretFiles(cfg) {
		if f.path == "" {
			continue
		}
		path := display.Name(f.path)
		info, err := os.Stat(f.path)
		if unusable := readfile.Check(f.path, readfile.MaxSecret); unusable != nil {
			c.missing(f.key, unusable)
		} else if err == nil && info.Mode().Perm()&openToOthers != 0 {
			c.note(fmt.Sprintf("%s: every user of this machine may read or write the secret in %s; chmod o-rw %s", f.key, path, path))
		}
	}
	for _, f := range certificateFiles(cfg) {
		if f.path != "" {
			c.missing(f.key, readfile.Check(f.path, readfile.MaxCertificate))
		}
	}
}

// missing adds a file that cannot be used.
func (c *checker) missing(key string, err error) {
	switch {
	case errors.Is(err, readfile.ErrNotRegular), errors.Is(err, readfile.ErrTooLarge):
		c.add(false, fmt.Errorf("%s: %w", key, err))
	case err != nil:
		c.add(false, fmt.Errorf("%s: %w; create the file, readable for the user of the daemon", key, err))
	}
}

const openToOthers fs.FileMode = 0o006

// clearText notes a connection to another machine that is not encrypted. What it carries can be read and changed on
// the way.
func (c *checker) clearText(key, host, fix string, encrypted bool) {
	if !encrypted && !local(host) {
		c.note(fmt.Sprintf("%s: the connection to %s is not encrypted: names, values and credentials can be read and changed on the way; %s", key, host, fix))
	}
}

// local reports whether a connection to a host stays on this machine. A socket has no host, or the path of its folder.
func local(host string) bool {
	if host == "" || host[0] == '/' || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// clearTextDatabase notes a connection to the database that has no TLS.
func (c *checker) clearTextDatabase(conn *pgx.Conn) {
	raw := conn.PgConn().Conn()
	_, encrypted := raw.(*tls.Conn)
	if raw.RemoteAddr().Network() != "unix" {
		c.clearText("postgres.url", conn.Config().Host, "add sslmode=verify-full, with sslrootcert for an authority of your own", encrypted)
	}
}

// clearTextNATS notes a connection to a NATS server that has no TLS.
func (c *checker) clearTextNATS(nc *nats.Conn) {
	host, _, err := net.SplitHostPort(nc.ConnectedAddr())
	if err != nil {
		return
	}
	_, err = nc.TLSConnectionState()
	c.clearText("nats.url", host, "write tls:// and set up TLS at the server", err == nil)
}
