package app

import (
	"errors"
	"log/slog"
	"regexp"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/router/stream"
)

// What the connection to the stream's server logs as conditions; see package condition.
var (
	natsDenied = condition.Text{Level: slog.LevelError, On: "the NATS server refuses the user a subject", Off: "the NATS server has taken the user again"}
	natsFails  = condition.Text{Level: slog.LevelWarn, On: "the NATS connection reports an error"}
	natsAway   = condition.Text{Level: slog.LevelWarn, On: "the connection to the NATS server is lost", Off: "the NATS server is connected again"}
)

// natsErrors are the errors that a connection reports by itself, which the client library would print on standard error.
type natsErrors struct {
	// url is nats.url, which an error may quote.
	url        string
	conditions *condition.Log
	mu         sync.Mutex
	// refused is the first subject that the server refused the user since it connected.
	refused *stream.Denied
	// denied hands refused subjects to a trial; it holds some and drops the rest.
	denied chan stream.Denied
}

func newNATSErrors(url string, log *slog.Logger) *natsErrors {
	return &natsErrors{url: url, conditions: condition.NewLog(log), denied: make(chan stream.Denied, 16)}
}

var violation = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]+)"`)

func (e *natsErrors) options() []nats.Option {
	return []nats.Option{
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { e.report(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				e.conditions.At(natsAway).Observe("err", display.Redact(err, e.url))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { e.connected() }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { e.conditions.At(natsAway).Observe("err", display.Redact(err, e.url)) }),
	}
}

func (e *natsErrors) report(err error) {
	m := violation.FindStringSubmatch(err.Error())
	if !errors.Is(err, nats.ErrPermissionViolation) || m == nil {
		e.conditions.At(natsFails, "err", display.Redact(err, e.url).Error()).Observe("times", condition.Sum(1))
		return
	}
	d := stream.Denied{Subject: m[2], Subscribe: m[1][0] == 'S' || m[1][0] == 's'}
	e.conditions.At(natsDenied).Observe("err", d, "times", condition.Sum(1))
	e.mu.Lock()
	if e.refused == nil {
		e.refused = &d
	}
	e.mu.Unlock()
	select {
	case e.denied <- d:
	default:
	}
}

// unusable reports a file of the connection that could not be used at a reconnect.
func (e *natsErrors) unusable(err error) { e.conditions.At(natsAway).Observe("err", err) }

// connected forgets what the server refused: it may have other permissions now.
func (e *natsErrors) connected() {
	e.conditions.At(natsAway).End()
	e.conditions.At(natsDenied).End()
	e.mu.Lock()
	e.refused = nil
	e.mu.Unlock()
}

// denial says what the server refuses the user, empty if nothing.
func (e *natsErrors) denial() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused == nil {
		return ""
	}
	return e.refused.Error()
}
