package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/walpurge/walpurge/cdc/readfile"
)

// What pgconn does not know in a connection string it would send to the server as a setting. So
// that neither libpq's other parameters nor those of frameworks get there, each is dealt with here.

// ignored are parameters of libpq that change nothing here: the session pins what they set, or
// they are about GSSAPI encryption, OAuth or load balancing, which are not used; libpq itself
// ignores sslcompression.
var ignored = []string{
	"client_encoding", "replication", "sslcompression", "gsslib", "gssdelegation",
	"oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope", "oauth_ca_file",
}

// unsupported are parameters of libpq without which a connection is not as safe as it was meant
// to be, so that they must not be ignored.
var unsupported = []string{"requirepeer", "sslcrl", "sslcrldir", "sslkeylogfile", "scram_client_key", "scram_server_key"}

// fileParameter finds the parameters of libpq that name a file which is read, in either form of a connection string.
var fileParameter = regexp.MustCompile(`(?:^|[?&\s])(sslrootcert|sslcert|sslkey|passfile|servicefile)\s*=\s*('(?:[^'\\]|\\.)*'|[^&\s']*)`)

// checkFiles reports files of a connection string, and of libpq's environment, that the library would read without end. What
// does not exist is the library's to report: some of the files may be missing.
func checkFiles(dsn string) error {
	check := func(setting, name string) error {
		err := readfile.Check(name, readfile.MaxCertificate)
		if errors.Is(err, readfile.ErrNotRegular) || errors.Is(err, readfile.ErrTooLarge) {
			return fmt.Errorf("%s: %w", setting, err)
		}
		return nil
	}
	var errs []error
	for _, m := range fileParameter.FindAllStringSubmatch(dsn, -1) {
		name := strings.Trim(m[2], "'")
		if plain, err := url.QueryUnescape(name); err == nil && strings.Contains(dsn, "://") {
			name = plain
		}
		errs = append(errs, check("postgres.url: "+m[1], name))
	}
	for _, variable := range []string{"PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGPASSFILE", "PGSERVICEFILE"} {
		errs = append(errs, check(variable, os.Getenv(variable)))
	}
	return errors.Join(errs...)
}

// applyParameters honours or ignores the parameters of libpq that pgconn does not know, and
// takes them out of those that are sent to the server. An error names every other.
func applyParameters(cfg *pgconn.Config) error {
	params := cfg.RuntimeParams
	if zone := os.Getenv("PGTZ"); zone != "" && params["timezone"] == zone {
		delete(params, "timezone") // from the environment; the session has its own
	}
	for _, name := range ignored {
		delete(params, name)
	}
	take := func(name string) (string, bool) {
		value, ok := params[name]
		delete(params, name)
		return value, ok && value != ""
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("postgres.url: "+format, args...)) }
	for _, name := range unsupported {
		if _, ok := take(name); ok {
			fail("parameter %q is not supported, and ignoring it would make the connection less safe; take it out if that is acceptable", name)
		}
	}
	oneOf := func(name string, values ...string) {
		if value, ok := take(name); ok && !slices.Contains(values, value) {
			fail("parameter %q is %q; write %s", name, value, strings.Join(values, " or "))
		}
	}
	if mode, ok := take("gssencmode"); ok && mode != "disable" && mode != "prefer" {
		fail("parameter %q is %q: encryption by GSSAPI is not supported; write disable or prefer, and use sslmode", "gssencmode", mode)
	}
	oneOf("load_balance_hosts", "disable", "random")
	if name, ok := take("fallback_application_name"); ok && params["application_name"] == "" {
		params["application_name"] = name
	}
	number := func(name string) (int, bool) {
		value, ok := take(name)
		if !ok {
			return 0, false
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			fail("parameter %q is no whole number", name)
		}
		return n, err == nil
	}
	applyKeepalives(cfg, number)
	for name, set := range map[string]func(*tls.Config, uint16){
		"ssl_min_protocol_version": func(t *tls.Config, v uint16) { t.MinVersion = v },
		"ssl_max_protocol_version": func(t *tls.Config, v uint16) { t.MaxVersion = v },
	} {
		value, ok := take(name)
		if !ok {
			continue
		}
		version, known := tlsVersions[strings.ToUpper(value)]
		if !known {
			fail("parameter %q is %q; write TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3", name, value)
			continue
		}
		configs := []*tls.Config{cfg.TLSConfig}
		for _, f := range cfg.Fallbacks {
			configs = append(configs, f.TLSConfig)
		}
		for _, t := range configs {
			if t != nil {
				set(t, version)
			}
		}
	}
	if addrs, ok := take("hostaddr"); ok {
		if err := applyHostAddresses(cfg, strings.Split(addrs, ",")); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name != "application_name" && name != "options" {
			fail("parameter %q is not one of libpq's parameters; remove it (rules name the schema of each table, and settings of the server go into options=-c...)", name)
		}
	}
	return errors.Join(errs...)
}

var tlsVersions = map[string]uint16{"TLSV1": tls.VersionTLS10, "TLSV1.1": tls.VersionTLS11, "TLSV1.2": tls.VersionTLS12, "TLSV1.3": tls.VersionTLS13}

// tcpUserTimeout is TCP_USER_TIMEOUT of Linux (include/uapi/linux/tcp.h).
const tcpUserTimeout = 18

// applyKeepalives gives the dialer what libpq's keepalives, keepalives_idle, keepalives_interval,
// keepalives_count (0 is the default of the system) and tcp_user_timeout (in milliseconds) say.
func applyKeepalives(cfg *pgconn.Config, number func(name string) (int, bool)) {
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}, Timeout: cfg.ConnectTimeout}
	changed := false
	if on, ok := number("keepalives"); ok {
		dialer.KeepAliveConfig.Enable = on != 0
		if on == 0 {
			dialer.KeepAlive = -1
		}
		changed = true
	}
	if n, ok := number("keepalives_idle"); ok && n > 0 {
		dialer.KeepAliveConfig.Idle, changed = time.Duration(n)*time.Second, true
	}
	if n, ok := number("keepalives_interval"); ok && n > 0 {
		dialer.KeepAliveConfig.Interval, changed = time.Duration(n)*time.Second, true
	}
	if n, ok := number("keepalives_count"); ok && n > 0 {
		dialer.KeepAliveConfig.Count, changed = n, true
	}
	// Other systems than Linux have no such timeout, and libpq ignores it there.
	if n, ok := number("tcp_user_timeout"); ok && n > 0 && runtime.GOOS == "linux" {
		changed = true
		dialer.Control = func(network, _ string, conn syscall.RawConn) (err error) {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			if cerr := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, tcpUserTimeout, n) }); cerr != nil {
				return cerr
			}
			return err
		}
	}
	if changed {
		cfg.DialFunc = dialer.DialContext
	}
}

// withHost adds a host to a connection string that has only an address.
func withHost(url, host string) string {
	switch {
	case !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://"):
		return url + " host='" + host + "'"
	case strings.Contains(url, "?"):
		return url + "&host=" + host
	}
	return url + "?host=" + host
}

// applyHostAddresses connects to addresses without looking the host names up, which are still
// what certificates are checked for.
func applyHostAddresses(cfg *pgconn.Config, addrs []string) error {
	var hosts []string
	for _, f := range append([]*pgconn.FallbackConfig{{Host: cfg.Host}}, cfg.Fallbacks...) {
		if !slices.Contains(hosts, f.Host) {
			hosts = append(hosts, f.Host)
		}
	}
	if len(hosts) != len(addrs) || strings.HasPrefix(hosts[0], "/") {
		return fmt.Errorf("postgres.url: parameter %q has %d addresses for %d host names; name a host for each, or write the address as the host", "hostaddr", len(addrs), len(hosts))
	}
	byHost := make(map[string]string, len(hosts))
	for i, host := range hosts {
		if addrs[i] != "" && net.ParseIP(addrs[i]) == nil {
			return fmt.Errorf("postgres.url: parameter %q has %q, which is no IP address", "hostaddr", addrs[i])
		}
		byHost[host] = addrs[i]
	}
	lookup := cfg.LookupFunc
	cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if addr := byHost[host]; addr != "" {
			return []string{addr}, nil
		}
		return lookup(ctx, host)
	}
	return nil
}

// wantsStandby reports that target_session_attrs asks for a server that is not the primary.
// pgconn does not keep its text.
func wantsStandby(validate pgconn.ValidateConnectFunc) bool {
	if validate == nil {
		return false
	}
	at := func(f pgconn.ValidateConnectFunc) uintptr { return reflect.ValueOf(f).Pointer() }
	return slices.Contains([]uintptr{
		at(pgconn.ValidateConnectTargetSessionAttrsStandby), at(pgconn.ValidateConnectTargetSessionAttrsPreferStandby), at(pgconn.ValidateConnectTargetSessionAttrsReadOnly),
	}, at(validate))
}
