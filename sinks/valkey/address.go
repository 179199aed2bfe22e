package valkey

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// endpoint is what a URL says.
type endpoint struct {
	network  string // tcp or unix
	tls      bool
	addrs    []string
	username string
	password string
	database int
}

const urlShape = "write valkey://host:6379/0, valkeys:// for TLS, valkey://a:6379,b:6379 for a cluster, or unix:///path/to/socket"

// parseURL reads a URL of servers; see parse.
func parseURL(s string) (endpoint, error) { return parse(s, serverPort) }

// parse reads Config.URL. port is that of hosts without one. net/url is not used for the whole: it refuses
// host lists, and its errors repeat the text they are about. Errors here never
// do, since a badly escaped password can end up in any part.
func parse(s, port string) (endpoint, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return endpoint{}, errors.New("no scheme; " + urlShape)
	}
	ep := endpoint{network: "tcp"}
	switch strings.ToLower(scheme) {
	case "valkey", "redis":
	case "valkeys", "rediss":
		ep.tls = true
	case "unix":
		ep.network = "unix"
	default:
		return endpoint{}, errors.New("unknown scheme; " + urlShape)
	}

	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(rest, "#") || strings.Contains(query, "#") {
		return endpoint{}, errors.New("a # has no meaning here; write it as %23 in a password")
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i+1:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := ep.user(authority[:i]); err != nil {
			return endpoint{}, err
		}
		authority = authority[i+1:]
	}

	if ep.network == "unix" {
		if authority != "" || path == "" {
			return endpoint{}, errors.New("a socket needs an absolute path; write unix:///path/to/socket")
		}
		p, err := url.PathUnescape("/" + path)
		if err != nil {
			return endpoint{}, errors.New("the socket's path has a bad % escape")
		}
		ep.addrs = []string{p}
		return ep, ep.options(query)
	}
	for i, host := range strings.Split(authority, ",") {
		addr, err := hostPort(host, port)
		if err != nil {
			return endpoint{}, errors.New("host " + strconv.Itoa(i+1) + " is not host or host:port; " + urlShape)
		}
		ep.addrs = append(ep.addrs, addr)
	}
	if path != "" {
		db, err := database(path)
		if err != nil {
			return endpoint{}, err
		}
		ep.database = db
	}
	return ep, ep.options(query)
}

func (ep *endpoint) user(info string) error {
	name, pass, _ := strings.Cut(info, ":")
	var err1, err2 error
	ep.username, err1 = url.PathUnescape(name)
	ep.password, err2 = url.PathUnescape(pass)
	if err1 != nil || err2 != nil {
		return errors.New("the user or the password has a bad % escape; write a literal % as %25")
	}
	return nil
}

func (ep *endpoint) options(query string) error {
	if query == "" {
		return nil
	}
	value, ok := strings.CutPrefix(query, "db=")
	if !ok || ep.network != "unix" {
		return errors.New("the only parameter is ?db= of a unix socket; everything else has a key of its own")
	}
	db, err := database(value)
	ep.database = db
	return err
}

func database(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, errors.New("the database is not a number from 0; write valkey://host:6379/0")
	}
	return n, nil
}

// The ports that servers and sentinels listen on by default.
const (
	serverPort   = "6379"
	sentinelPort = "26379"
)

func hostPort(s, defaultPort string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, defaultPort
		if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
			host = s[1 : len(s)-1]
		} else if strings.ContainsAny(s, ":[]") {
			return "", err
		}
	}
	if host == "" {
		return "", errors.New("no host")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", errors.New("no port")
	}
	return net.JoinHostPort(host, port), nil
}
