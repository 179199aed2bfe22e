package condition

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Period is the time between two lines about a condition that lasts, and how long a condition must
// be over before it counts as a new one.
const Period = 10 * time.Minute

// Text is what the log says of a kind of condition.
type Text struct {
	// Level is that of the lines while the condition lasts. The line at its end is at info.
	Level slog.Level
	// On is the message at the start and in summaries, Off the one at the end. A condition without
	// Off has no end that the component sees: it is over when a Period brought no occurrence, and
	// the log says nothing then. Texts with the same On name the same condition: what counts is
	// the Off that it ends with.
	On, Off string
}

// Sum is the value of an attribute that is added up over the occurrences. Attributes of other types
// have the value of the newest occurrence.
type Sum int64

// Log writes the conditions of one component. It is safe for concurrent use.
type Log struct {
	log *slog.Logger

	mu     sync.Mutex
	states map[string]*state
	timer  *time.Timer
	closed bool
}

// NewLog returns a Log that writes to the logger.
func NewLog(log *slog.Logger) *Log { return &Log{log: log, states: make(map[string]*state)} }

// Close ends the summaries. A condition that begins later still has its first line.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// Condition is one condition of a Log.
type Condition struct {
	l      *Log
	text   Text
	labels []string
}

// At returns the condition of the text with these labels, given as names and values. It costs
// nothing until something is observed.
func (l *Log) At(text Text, labels ...string) Condition { return Condition{l, text, labels} }

// Observe records an occurrence, with attributes as slog takes them in pairs.
func (c Condition) Observe(attrs ...any) {
	l, key, now := c.l, c.key(), time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.states[key]
	if s == nil {
		s = &state{text: c.text, labels: c.labels}
		l.states[key] = s
	}
	s.record(attrs)
	l.write(s, s.observe(now), now, nil)
	l.schedule(now)
}

// End says that the condition is over. It does nothing if it is not on.
func (c Condition) End(attrs ...any) {
	l, now := c.l, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.states[c.key()]
	if s == nil {
		return
	}
	s.text.Off = c.text.Off
	l.write(s, s.end(now), now, attrs)
	l.schedule(now)
}

// On reports whether the condition lasts.
func (c Condition) On() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	s := c.l.states[c.key()]
	return s != nil && s.over.IsZero()
}

func (c Condition) key() string { return c.text.On + "\x00" + strings.Join(c.labels, "\x00") }

// tick writes the lines that are due.
func (l *Log) tick() {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	var due []string
	for key, s := range l.states {
		if !now.Before(s.due()) {
			due = append(due, key)
		}
	}
	slices.Sort(due)
	for _, key := range due {
		s := l.states[key]
		next, gone := s.pass(now)
		l.write(s, next, now, nil)
		if gone {
			delete(l.states, key)
		}
	}
	l.schedule(now)
}

// schedule has tick called when the next line is due. One timer serves all conditions.
func (l *Log) schedule(now time.Time) {
	if l.closed || len(l.states) == 0 {
		return
	}
	var next time.Time
	for _, s := range l.states {
		if due := s.due(); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(next.Sub(now), l.tick)
		return
	}
	l.timer.Reset(next.Sub(now))
}

func (l *Log) write(s *state, what line, now time.Time, attrs []any) {
	var out []any
	for i := 0; i+1 < len(s.labels); i += 2 {
		out = append(out, s.labels[i], s.labels[i+1])
	}
	switch what {
	case began:
		if s.times > 1 {
			out = append(out, "times", s.times)
		}
		l.log.Log(context.Background(), s.text.Level, s.text.On, append(out, s.attrs...)...)
	case lasts:
		out = append(out, "lasting", now.Sub(s.began).Round(time.Millisecond))
		if s.times > 1 {
			out = append(out, "times", s.times)
		}
		l.log.Log(context.Background(), s.text.Level, s.text.On, append(out, s.attrs...)...)
	case ended:
		out = append(out, "lasted", s.over.Sub(s.began).Round(time.Millisecond))
		if s.times > 1 {
			out = append(out, "times", s.times)
		}
		for i := 0; i+1 < len(s.attrs); i += 2 {
			if _, sum := s.attrs[i+1].(Sum); sum {
				out = append(out, s.attrs[i], s.attrs[i+1])
			}
		}
		l.log.Info(s.text.Off, append(out, attrs...)...)
	}
}
