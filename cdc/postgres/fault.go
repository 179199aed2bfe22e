package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault is an error that a human mends by doing what Fix says. Trying again
// without that is useless.
type Fault struct {
	Err error
	Fix string
}

// Error says what is wrong and what to do, in one line.
func (f *Fault) Error() string { return f.Err.Error() + "; fix: " + f.Fix }

// Unwrap returns what is wrong.
func (f *Fault) Unwrap() error { return f.Err }

// Missing is a Fault about something that the user's files name and the
// database does not have.
type Missing struct{ Fault }

// SQLSTATE codes that the reader acts upon (manual, appendix "PostgreSQL Error Codes").
const (
	codeObjectInUse        = "55006" // the slot is active for another process
	codeNotInState         = "55000" // the slot cannot be read any more
	codeUndefinedObject    = "42704" // no such slot
	codePrivilege          = "42501"
	codeLockNotAvailable   = "55P03" // lock_timeout
	codeInvalidPassword    = "28P01"
	codeInvalidAuth        = "28000"
	codeInvalidCatalogName = "3D000"
	codeInvalidParameter   = "22023" // a setting has a value that it cannot have
	codeNotInRepertoire    = "22021" // bytes that are no character of the encoding
	codeUntranslatable     = "22P05" // a character that the client's encoding does not have
	codeOutOfMemory        = "53200"
	codeUndefinedFile      = "58P01" // also a library of functions that is not installed
	codeCannotConnectNow   = "57P03" // the server starts up or shuts down
)

// sqlState returns the server's error code, or an empty string.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// refusal is a failed attempt to connect, told in one line.
type refusal struct {
	text string
	err  error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.err }

// unreachable says why no connection could be made. pgconn tries every address with and
// without TLS, and lists what each attempt met; equal causes at one address are one here.
func unreachable(err error) string {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) {
		return oneLine(err)
	}
	attempts := []error{failed.Unwrap()}
	if many, ok := failed.Unwrap().(interface{ Unwrap() []error }); ok {
		attempts = many.Unwrap()
	}
	var texts []string
	for _, a := range attempts {
		text := oneLine(a)
		var op *net.OpError
		if errors.As(a, &op) && op.Addr != nil {
			text = op.Addr.String() + ": " + oneLine(op.Err)
			var call *os.SyscallError
			if errors.As(op.Err, &call) {
				text = op.Addr.String() + ": " + call.Err.Error()
			}
		}
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return "cannot connect to PostgreSQL at " + strings.Join(texts, ", ")
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// explain adds the way out to the server's refusals of a connection.
func (c Config) explain(err error) error {
	cfg, perr := c.parse()
	if perr != nil {
		return perr
	}
	brief := error(&refusal{text: unreachable(err), err: err})
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		brief = &refusal{text: fmt.Sprintf("PostgreSQL at %s:%d refuses user %q: %s (SQLSTATE %s)", cfg.Host, cfg.Port, cfg.User, pg.Message, pg.Code), err: err}
	}
	switch sqlState(err) {
	case codeInvalidPassword:
		return &Fault{brief, "set the right password in postgres.url, postgres.password_file, PGPASSWORD or ~/.pgpass"}
	case codeInvalidAuth:
		return &Fault{brief, "check the user name, that the role has LOGIN, and pg_hba.conf (ordinary connections need a line for the database, and so does logical replication)"}
	case codeInvalidCatalogName:
		return &Missing{Fault{brief, "name an existing database in postgres.url"}}
	case codeUndefinedObject, codeInvalidParameter:
		return &Fault{brief, "correct the setting, in options of postgres.url or in PGOPTIONS"}
	case codePrivilege:
		return &Fault{brief, fmt.Sprintf("ALTER ROLE %s REPLICATION; (managed services: grant their replication role)", quote(cfg.User))}
	}
	return brief
}
