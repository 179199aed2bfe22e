package embedded

import (
	"fmt"
	"log/slog"
	"sync"
)

// logger passes the server's words on. What it calls a notice is of no interest
// to an operator of the pipeline.
type logger struct {
	log  *slog.Logger
	mu   sync.Mutex
	last string
}

func (l *logger) say(level func(string, ...any), format string, args []any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	level("nats server", "msg_text", text)
}

func (l *logger) lastError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "msg_text", fmt.Sprintf(format, v...))
}
func (l *logger) Warnf(format string, v ...any)  { l.say(l.log.Warn, format, v) }
func (l *logger) Fatalf(format string, v ...any) { l.say(l.log.Error, format, v) }
func (l *logger) Errorf(format string, v ...any) { l.say(l.log.Error, format, v) }
func (l *logger) Debugf(string, ...any)          {}
func (l *logger) Tracef(string, ...any)          {}
