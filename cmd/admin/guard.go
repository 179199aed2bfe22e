package admin

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc/readfile"
)

// maxBody bounds the body of a call that changes something.
const maxBody = 1 << 20

// guard lets through what may change something.
func (s *Server) guard(next http.HandlerFunc) http.Handler {
	checked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch {
		case err != nil || kind != "application/json":
			fail(w, http.StatusUnsupportedMediaType, errors.New("send Content-Type: application/json"))
		default:
			if err := s.authorize(r); err != nil {
				fail(w, http.StatusUnauthorized, err)
				return
			}
			next(w, r)
		}
	})
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, errors.New("no call from another origin: a web page has no business here"))
	}))
	return sameOrigin.Handler(checked)
}

// forOthers are the paths that tell nothing of the data and are asked by whatever name the listener has: probes and
// metrics.
var forOthers = []string{"/-/healthy", "/-/ready", "/-/streaming", "/metrics"}

// checkHost refuses calls by a name that a hostile page can have pointed at this address (DNS rebinding): it would
// count as the page's own origin, and could read the answers. Such a page does not know the token.
func (s *Server) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if ownHost(r) || reads && slices.Contains(forOthers, r.URL.Path) || reads && s.cfg.TokenFile != "" && s.authorize(r) == nil {
			next.ServeHTTP(w, r)
			return
		}
		fail(w, http.StatusForbidden, errors.New("address the listener by its IP address or as localhost, so that no web page can"))
	})
}

// forwarding matches headers that proxies add, in lower case and with hyphens. No list of names is complete, so
// each header that begins with X- counts, and each that sounds like one of a proxy. A call with one of them does not come
// from where its connection does.
var forwarding = regexp.MustCompile(`^(x-|via$|client-|true-client|remote-|front-end-|cf-|cdn-|fastly-|fly-|akamai-|incap-|surrogate-)|forward|prox|client-ip|real-ip`)

func forwarded(r *http.Request) bool {
	for name := range r.Header {
		if forwarding.MatchString(strings.ReplaceAll(strings.ToLower(name), "_", "-")) {
			return true
		}
	}
	return false
}

// ownHost refuses names in the Host header, which a hostile page can have
// pointed at this address (DNS rebinding).
func ownHost(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// sameSite refuses calls that a page of another site makes. It could not read the answers, but could take all seats.
func sameSite(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			fail(w, http.StatusForbidden, errors.New("no call from another origin: a web page has no business here"))
			return
		}
		next(w, r)
	}
}

// authorize lets through who has the token; without one, this machine.
func (s *Server) authorize(r *http.Request) error {
	if s.cfg.TokenFile == "" {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return errors.New("set http.token_file to allow this from other machines")
		}
		if forwarded(r) {
			return errors.New("a proxy has forwarded this call; set http.token_file to allow this through a proxy")
		}
		return nil
	}
	want, err := readfile.Read(s.cfg.TokenFile, readfile.MaxSecret)
	if err != nil {
		return errors.New("http.token_file cannot be read")
	}
	got, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	want = bytes.TrimSpace(want)
	if !found || len(want) == 0 || subtle.ConstantTimeCompare([]byte(got), want) != 1 {
		return errors.New("send Authorization: Bearer with the token of http.token_file")
	}
	return nil
}
