package embedded

import (
	"fmt"
	"log/slog"
	"regexp"
	"sync"

	"github.com/walpurge/walpurge/cdc/condition"
)

// logger passes the server's words on. What it calls a notice is of no interest
// to an operator of the pipeline.
type logger struct {
	log *slog.Logger
	// conditions tells the server's words apart by their format, unless about names them all: clients
	// choose a part of the format, their name.
	conditions *condition.Log
	about      string

	mu   sync.Mutex
	last string
}

// numbers are client ids and ports, which the server puts into its formats.
var numbers = regexp.MustCompile(`[0-9]+`)

func (l *logger) say(level slog.Level, format string, args []any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	said := condition.Text{Level: level, On: "nats server"}
	about := l.about
	if about == "" {
		about = numbers.ReplaceAllString(format, "#")
	}
	l.conditions.At(said, "about", about).Observe("msg_text", text, "times", condition.Sum(1))
}

func (l *logger) lastError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "msg_text", fmt.Sprintf(format, v...))
}
func (l *logger) Warnf(format string, v ...any)  { l.say(slog.LevelWarn, format, v) }
func (l *logger) Fatalf(format string, v ...any) { l.say(slog.LevelError, format, v) }
func (l *logger) Errorf(format string, v ...any) { l.say(slog.LevelError, format, v) }
func (l *logger) Debugf(string, ...any)          {}
func (l *logger) Tracef(string, ...any)          {}
