package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Postgres is a PostgreSQL server, a direct child of this process. Its methods
// may be called concurrently, except that only one of Restart and Close may run
// at a time.
type Postgres struct {
	cfg       PostgresConfig
	dir       string
	socketDir string
	as        *account
	port      int
	// owned are directories that Close removes.
	owned []string

	mu   sync.Mutex
	proc *process
}

// longestSocketDir keeps "/.s.PGSQL.31999" within the 104 bytes that a socket's
// path may have on macOS (108 on Linux).
const longestSocketDir = 85

// StartPostgres copies the template, starts a server on a free port of
// 127.0.0.1 and on a socket, and returns when it accepts connections. As root it
// runs the server as the user postgres. It blocks until then or until ctx ends;
// after an error nothing is left running.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	p := &Postgres{cfg: cfg, dir: cfg.Dir}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), p.Close())
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context) (err error) {
	if p.cfg.Binaries.Dir == "" {
		if p.cfg.Binaries, err = FindPostgres(); err != nil {
			return err
		}
	}
	if p.cfg.Template == "" {
		if p.cfg.Template, err = EnsureTemplate(ctx, p.cfg.Binaries, ""); err != nil {
			return err
		}
	}
	if p.as, err = postgresAccount(); err != nil {
		return err
	}
	if err := p.makeDirs(); err != nil {
		return err
	}
	if err := copyTree(p.cfg.Template, p.dataDir(), p.as); err != nil {
		return fmt.Errorf("copy the template cluster: %w", err)
	}
	// PostgreSQL insists on 0700 or 0750.
	if err := os.Chmod(p.dataDir(), 0o700); err != nil {
		return err
	}
	for range 5 {
		if p.port, err = FreePort(); err != nil {
			return err
		}
		if err = p.launch(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

func (p *Postgres) makeDirs() (err error) {
	if p.dir == "" {
		if p.dir, err = MkdirScratch(); err != nil {
			return err
		}
		p.owned = append(p.owned, p.dir)
	}
	if p.dir, err = filepath.Abs(p.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	if err := p.as.own(p.dir); err != nil {
		return err
	}
	if err := p.as.reach(p.dir); err != nil {
		return err
	}
	p.socketDir = p.dir
	if len(p.dir) > longestSocketDir {
		p.socketDir, err = p.tempDir("walpurge-pg-")
	}
	return err
}

// tempDir makes a directory of the server's account that Close removes.
func (p *Postgres) tempDir(prefix string) (string, error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", err
	}
	p.owned = append(p.owned, dir)
	return dir, errors.Join(p.as.own(dir), p.as.reach(dir))
}

func (p *Postgres) dataDir() string { return filepath.Join(p.dir, "data") }

// DataDir is the cluster's directory.
func (p *Postgres) DataDir() string { return p.dataDir() }

// LogFile is the path of the server's log.
func (p *Postgres) LogFile() string { return filepath.Join(p.dir, "postgres.log") }

// SocketDir is the directory of the Unix socket: a host for libpq.
func (p *Postgres) SocketDir() string { return p.socketDir }

// Port is the TCP port on 127.0.0.1. It stays the same over Restart.
func (p *Postgres) Port() int { return p.port }

// PID is the process id of the postmaster, running or not.
func (p *Postgres) PID() int { return p.process().pid() }

// Done is closed when the server that runs now has ended, for whatever reason.
// After Restart there is a new one.
func (p *Postgres) Done() <-chan struct{} { return p.process().done }

func (p *Postgres) process() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc
}

// URL returns a libpq URL for a database over TCP, by default as the superuser
// postgres; user is a name and, optionally, a password.
func (p *Postgres) URL(db string, user ...string) string {
	info := url.User("postgres")
	switch len(user) {
	case 0:
	case 1:
		info = url.User(user[0])
	default:
		info = url.UserPassword(user[0], user[1])
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     info,
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketURL is that of URL for the superuser over the server's Unix socket.
func (p *Postgres) SocketURL(db string) string {
	at := url.Values{"host": {p.socketDir}, "port": {strconv.Itoa(p.port)}}
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + db, RawQuery: at.Encode()}).String()
}

// Close stops the server at once, as a crash would but tidily, and removes the
// directories that the harness made. It may be called at any time and again.
func (p *Postgres) Close() error {
	var errs []error
	if proc := p.process(); proc != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := p.Stop(ctx, Immediate); err != nil {
			errs = append(errs, err, p.Kill())
		}
		errs = append(errs, removeSharedMemory(p.dataDir()))
	}
	for _, dir := range p.owned {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
