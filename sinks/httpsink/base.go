package httpsink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// CallTimeout bounds one call of a sink, the answers to all its requests included, where the sink has
// no setting for it.
const CallTimeout = 9 * time.Second

// Base is what sinks that speak HTTP embed: the client, the bound of a call, what Purge does before
// and after the requests, and Close. Its errors begin with the kind of the sink.
type Base struct {
	// Kind is the sink's kind.
	Kind string
	HTTP *http.Client
	// Timeout bounds one call.
	Timeout time.Duration
	closed  atomic.Bool
}

// NewBase returns the base of a sink with a client of its own.
func NewBase(kind string, cfg Config) *Base {
	return &Base{Kind: kind, HTTP: NewClient(cfg), Timeout: CallTimeout}
}

// Close closes idle connections. Calls that follow fail.
func (b *Base) Close() {
	b.closed.Store(true)
	b.HTTP.CloseIdleConnections()
}

// Open returns an error after Close.
func (b *Base) Open() error {
	if b.closed.Load() {
		return fmt.Errorf("%s: the sink is closed", b.Kind)
	}
	return nil
}

// Admit returns an error where no request can be made of a batch: after Close, and for a batch of
// more than most. The lane splits such a batch.
func (b *Base) Admit(batch []invalidation.Invalidation, most int) error {
	if err := b.Open(); err != nil {
		return err
	}
	if len(batch) > most {
		return sinks.ItemError(fmt.Errorf("%s: %d invalidations in one call; split it, at most %d fit", b.Kind, len(batch), most))
	}
	return nil
}

// AdmitOneKind is Admit for a sink whose requests carry one kind each.
func (b *Base) AdmitOneKind(batch []invalidation.Invalidation, limits sinks.Limits) error {
	for _, inv := range batch {
		if inv.Kind != batch[0].Kind {
			return sinks.ItemError(fmt.Errorf("%s: %s and %s in one call; split it, a call carries one kind", b.Kind, batch[0].Kind, inv.Kind))
		}
	}
	most := 0
	if len(batch) > 0 {
		most = limits.ItemsOf(batch[0].Kind)
	}
	return b.Admit(batch, most)
}

// Bound returns the context of a call.
func (b *Base) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.Timeout)
}

// Unanswered describes why a request of this sink got no answer. caller is the context of the caller.
func (b *Base) Unanswered(caller context.Context, err error) error {
	return fmt.Errorf("%s: %w", b.Kind, Unanswered(caller, err, b.Timeout))
}

// Sendable are the values of a batch that can be sent, and the errors of the others.
type Sendable struct {
	Values []string
	places []int // of the values in the batch
	failed map[int]error
}

// Select finds the values that accepts does not refuse.
func (b *Base) Select(batch []invalidation.Invalidation, accepts func(invalidation.Invalidation) error) *Sendable {
	s := &Sendable{failed: map[int]error{}}
	for i, inv := range batch {
		if err := accepts(inv); err != nil {
			s.failed[i] = sinks.ItemError(fmt.Errorf("%s: %w", b.Kind, err))
			continue
		}
		s.Values, s.places = append(s.Values, inv.Value), append(s.places, i)
	}
	return s
}

// Each sends a request for each value, as the function Each does. It returns the error of the batch.
func (s *Sendable) Each(atOnce int, send func(value string) error) error {
	errs := Each(s.Values, atOnce, send)
	if len(errs) == 1 && len(s.failed) == 0 {
		return errs[0]
	}
	for n, err := range errs {
		if err != nil {
			s.failed[s.places[n]] = err
		}
	}
	return s.Refused()
}

// Refused is the error of a batch whose other values were purged.
func (s *Sendable) Refused() error { return Refused(s.failed) }

// Refused is the error of a batch of which some values failed, by their places.
func Refused(failed map[int]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &sinks.BatchError{Failed: failed}
}

// Request is one request to an API with a token. The body is JSON, or nil.
type Request struct {
	Method, URL string
	// TokenFile is read for each request. Its content is sent in TokenHeader, after TokenPrefix.
	TokenFile, TokenHeader, TokenPrefix string
	Header                              map[string]string
	Body                                []byte
}

// Response is an answer with its whole body. Token is what the request was sent with: no log may
// have it.
type Response struct {
	Answer
	Body  []byte
	Token string
}

// Excerpt is the beginning of the body without the token, for a log at debug.
func (r *Response) Excerpt() string {
	return strings.ReplaceAll(string(r.Body[:min(len(r.Body), 500)]), r.Token, "***")
}

// Send sends one request within bounded, and blocks until the answer is complete.
func (b *Base) Send(caller, bounded context.Context, r Request) (*Response, error) {
	token, err := ReadToken(r.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Kind, err)
	}
	req, err := http.NewRequestWithContext(bounded, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil { // it would name the URL
		return nil, sinks.ItemError(errors.New(b.Kind + ": a value that no request can carry"))
	}
	req.Header.Set(r.TokenHeader, r.TokenPrefix+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "walpurge")
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	resp, err := b.HTTP.Do(req)
	if err != nil {
		return nil, b.Unanswered(caller, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, b.Unanswered(caller, err)
	}
	return &Response{Answer: Answer{Status: resp.StatusCode, Header: resp.Header}, Body: raw, Token: token}, nil
}
