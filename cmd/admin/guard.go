package admin

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
)

// maxBody bounds the body of a call that changes something.
const maxBody = 1 << 20

// guard lets through what may change something.
func (s *Server) guard(next http.HandlerFunc) http.Handler {
	checked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch {
		case !ownHost(r):
			fail(w, http.StatusForbidden, errors.New("address the listener by its IP address or as localhost, so that no web page can"))
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

// ownHost refuses names in the Host header, which a hostile page can have
// pointed at this address (DNS rebinding).
func ownHost(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}

func (s *Server) authorize(r *http.Request) error {
	if s.cfg.TokenFile == "" {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return errors.New("set http.token_file to allow this from other machines")
		}
		return nil
	}
	want, err := os.ReadFile(s.cfg.TokenFile)
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
