package webhook

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// service is an application that purges what it is told to, if the signature
// holds.
type service struct {
	*httptest.Server

	mu     sync.Mutex
	secret string
	held   map[string]bool
	fault  http.HandlerFunc
	bodies []string
	heads  []http.Header
}

func startService(t testing.TB, secret string) *service {
	s := &service{secret: secret, held: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) set(fault http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.bodies, s.heads = append(s.bodies, string(body)), append(s.heads, r.Header.Clone())
	s.mu.Unlock()
	if fault != nil {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		fault(w, r)
		return
	}
	s.purge(w, r, body)
}

func (s *service) purge(w http.ResponseWriter, r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p struct {
		V     int `json:"v"`
		Items []struct {
			Tags   []string            `json:"tags"`
			Base64 map[string][]string `json:"base64"`
		} `json:"items"`
		Everything bool `json:"everything"`
	}
	switch {
	case s.secret != "" && !verify(r.Header.Get("X-Walpurge-Signature"), body, s.secret, time.Now()):
		w.WriteHeader(http.StatusUnauthorized)
	case json.Unmarshal(body, &p) != nil || p.V != 1:
		w.WriteHeader(http.StatusBadRequest)
	default:
		if p.Everything {
			clear(s.held)
		}
		for _, it := range p.Items {
			for _, tag := range it.Tags {
				delete(s.held, tag)
			}
			for _, coded := range it.Base64["tag"] {
				if tag, err := base64.StdEncoding.DecodeString(coded); err == nil {
					delete(s.held, string(tag))
				}
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *service) fill(values []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.held[v] = true
	}
}

func (s *service) holds(v string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[v]
}

// seen returns the bodies and headers since the last time.
func (s *service) seen() (bodies []string, heads []http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bodies, heads = s.bodies, s.heads
	s.bodies, s.heads = nil, nil
	return bodies, heads
}
