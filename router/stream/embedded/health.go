package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/walpurge/walpurge/cdc/beat"
)

// healthPause is how often the store's health is looked at. What is published to a
// failed store is not lost meanwhile: it is not acknowledged, so it comes again.
const healthPause = 5 * time.Second

// Watch blocks until the context ends, and returns nil; or until a stream's store
// has failed, and says how. A store that could not write once, as on a full disk,
// refuses every later message until the server starts again, and the publisher
// hears nothing of it: messages are simply not answered.
func (s *Server) Watch(ctx context.Context) error {
	for {
		select {
		case <-beat.After(healthPause):
		case <-ctx.Done():
			return nil
		}
		if err := s.health(); err != nil {
			return err
		}
	}
}

// health asks the server for what its monitoring port would answer to /healthz,
// which is the only way that it tells of a failed store.
func (s *Server) health() error {
	a := &answer{}
	s.ns.HandleHealthz(a, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/healthz"}})
	// Any other code, as of a server too busy to answer in a millisecond, says
	// nothing of the store.
	if a.code != http.StatusServiceUnavailable {
		return nil
	}
	var told struct{ Error string }
	if err := json.Unmarshal(a.body.Bytes(), &told); err != nil || told.Error == "" {
		told.Error = http.StatusText(a.code)
	}
	return fmt.Errorf("the store in %s has failed: %s; make room on its disk if that is full, and start again", s.cfg.Dir, told.Error)
}

// answer keeps an HTTP answer.
type answer struct {
	code int
	body bytes.Buffer
}

func (a *answer) Header() http.Header         { return http.Header{} }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
