package harness

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// PostgresConfig says how a PostgreSQL server is to be started. The zero value
// is a server with logical decoding in a temporary directory.
type PostgresConfig struct {
	// Nice is added to the niceness of this process, 0 to 19 (Linux): under load this process is
	// served before the server.
	Nice int
	// Dir is where the server keeps its files: data/ (the cluster), postgres.log
	// and the socket. Empty: a directory of MkdirScratch, which Close removes. It may
	// exist; data/ in it must not.
	Dir string
	// Binaries default to FindPostgres.
	Binaries Binaries
	// Settings are configuration parameters that go over the defaults, such as
	// "fsync": "on". ALTER SYSTEM goes over both. Port and addresses are not
	// theirs to set.
	Settings map[string]string
	// HBA are the lines of pg_hba.conf; default: everybody on the socket and on
	// loopback is trusted. Keep a line that lets postgres in on the socket
	// (`local all postgres trust`) for Exec and QueryRow to work.
	HBA []string
	// Template is the cluster directory that is copied; default: EnsureTemplate.
	// A base backup of another server will do, with its standby.signal.
	Template string
	// Log receives what the server writes, besides postgres.log in Dir.
	Log io.Writer
}

// defaultSettings make a small server that decodes logically. fsync is off and
// yet no commit is lost by killing processes: only a crash of the machine would
// lose one. synchronous_commit stays on, because with it off walsenders see a
// commit up to 200 ms later.
func defaultSettings() map[string]string {
	return map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "20",
		"max_replication_slots": "20",
		"max_connections":       "100",
		"shared_buffers":        "16MB",
		"max_wal_size":          "256MB",
		"huge_pages":            "off",
		"jit":                   "off",
		"fsync":                 "off",
		// Large transactions are streamed in tests, too.
		"logical_decoding_work_mem": "64kB",
		"full_page_writes":          "off",
		"timezone":                  "UTC",
		"log_timezone":              "UTC",
		"log_line_prefix":           "%m [%p] ",
		// Failures to start are told apart by their messages.
		"lc_messages": "C",
	}
}

func defaultHBA() []string {
	return []string{
		"local all all trust",
		"local replication all trust",
		"host all all 127.0.0.1/32 trust",
		"host replication all 127.0.0.1/32 trust",
	}
}

// settingsFile is included last in postgresql.conf and rewritten at each start.
const settingsFile = "harness.conf"

// configure writes the server's configuration into its data directory.
func (p *Postgres) configure() error {
	settings := defaultSettings()
	maps.Copy(settings, p.cfg.Settings)
	settings["listen_addresses"] = "127.0.0.1"
	settings["port"] = strconv.Itoa(p.port)
	settings["unix_socket_directories"] = p.socketDir
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		b.WriteString(name + " = '" + strings.ReplaceAll(settings[name], "'", "''") + "'\n")
	}
	if err := p.writeData(settingsFile, b.String()); err != nil {
		return err
	}
	hba := p.cfg.HBA
	if hba == nil {
		hba = defaultHBA()
	}
	if err := p.writeData("pg_hba.conf", strings.Join(hba, "\n")+"\n"); err != nil {
		return err
	}
	// A template that is a backup of another harness server has the line already.
	conf, err := os.ReadFile(filepath.Join(p.dataDir(), "postgresql.conf"))
	if err != nil {
		return err
	}
	include := "include_if_exists = '" + settingsFile + "'\n"
	if strings.HasSuffix(string(conf), include) {
		return nil
	}
	return p.writeData("postgresql.conf", string(conf)+"\n"+include)
}

func (p *Postgres) writeData(name, content string) error {
	path := filepath.Join(p.dataDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return p.as.own(path)
}
