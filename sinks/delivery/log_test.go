package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// logged has the world's lane log into a buffer that is read once the lane has stopped.
func (w *world) logged() *bytes.Buffer {
	var buf bytes.Buffer
	w.cfg.Logger = slog.New(slog.NewTextHandler(&buf, nil))
	return &buf
}

func logLines(buf *bytes.Buffer) []string {
	if buf.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
}

// load pushes a batch each pause for an hour.
func (w *world) load(pause time.Duration) {
	seq := uint64(0)
	for began := time.Now(); time.Since(began) < time.Hour; {
		seq++
		w.src.push(batch(seq, fmt.Sprintf("k%d", seq)))
		after(pause)
	}
}

// TestLogOfAClosedGate: a gate that opens after 50 s of load has one line at the start and one at
// the end, which says how many purges went early.
func TestLogOfAClosedGate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g, buf := w.gated(), w.logged()
		w.run()
		for seq := range uint64(500) {
			w.src.push(batch(seq+1, fmt.Sprintf("k%d", seq), "x"))
			after(100 * time.Millisecond)
		}
		after(5 * time.Second)
		early := int(w.metric("gate_timeouts_total", "visible"))
		require.Greater(t, early, 200)
		g.open(500)
		after(time.Hour)
		w.halt()
		lines := logLines(buf)
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], `level=WARN msg="gate still closed, purging without it" gate=visible waited=30s purged_early=1 items=2`)
		require.Contains(t, lines[1], fmt.Sprintf(`level=INFO msg="gate open" gate=visible lasted=25s purged_early=%d items=%d`, early, 2*early))
	})
}

// TestLogOfAnHour counts the lines of an hour under load.
func TestLogOfAnHour(t *testing.T) {
	request := 0
	for _, c := range []struct {
		name   string
		answer func(invs []invalidation.Invalidation) error
		most   int
		has    string
	}{
		{"well", nil, 0, ""},
		{"dead", func([]invalidation.Invalidation) error { return errDown }, 7, "class=transient"},
		{"request ids", func([]invalidation.Invalidation) error {
			request++
			return sinks.LaneError(fmt.Errorf("403, request id %d", request))
		}, 7, "class=lane"},
		{"429 for each second call", func([]invalidation.Invalidation) error {
			if request++; request%2 == 0 {
				return sinks.ThrottledError(fmt.Errorf("429, request id %d", request), 2*time.Second)
			}
			return nil
		}, 9, "class=throttled"},
		{"429 and 503 in turn", func([]invalidation.Invalidation) error {
			switch request++; request % 3 {
			case 0:
				return sinks.ThrottledError(fmt.Errorf("429, request id %d", request), 2*time.Second)
			case 1:
				return fmt.Errorf("503, request id %d", request)
			}
			return nil
		}, 18, "class=transient"},
		{"values that are refused", func([]invalidation.Invalidation) error {
			request++
			return sinks.ItemError(fmt.Errorf("value too long, request id %d", request))
		}, 7, "they are parked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				buf := w.logged()
				w.sink.answers(c.answer)
				w.run()
				w.load(time.Second)
				w.halt()
				lines := logLines(buf)
				require.LessOrEqual(t, len(lines), c.most, buf)
				require.Contains(t, buf.String(), c.has)
			})
		})
	}
}

// TestLogOfASinkThatRecovers: the end names duration and retries; another class of error is a line of
// its own.
func TestLogOfASinkThatRecovers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		buf := w.logged()
		w.sink.answers(func([]invalidation.Invalidation) error { return errDown })
		w.run()
		w.src.push(batch(1, "a", "b"))
		after(5 * time.Minute)
		w.sink.answers(func([]invalidation.Invalidation) error { return sinks.LaneError(errors.New("401")) })
		after(5 * time.Minute)
		w.sink.answers(nil)
		after(time.Minute)
		w.halt()
		lines := logLines(buf)
		require.Len(t, lines, 4)
		require.Contains(t, lines[0], `level=WARN msg="purge failed, trying again" class=transient err="connection refused"`)
		require.Contains(t, lines[1], `msg="purges no longer fail in this way" class=transient lasted=`)
		require.Contains(t, lines[2], `msg="purge failed, trying again" class=lane err=401`)
		require.Regexp(t, `msg="the sink takes purges again" class=lane lasted=(4m5|5m)\S* retries=\d+`, lines[3])
	})
}

// TestLogOfAcknowledgementsThatFail is the stream's server away for an hour.
func TestLogOfAcknowledgementsThatFail(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		buf := w.logged()
		w.src.ackErr = errDown
		w.run()
		w.load(time.Second)
		w.halt()
		require.LessOrEqual(t, len(logLines(buf)), 7, buf)
	})
}

// TestLogOfAStop: a stop is no end of what lasts.
func TestLogOfAStop(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.gated()
		buf := w.logged()
		w.run()
		w.src.push(batch(1, "a"), batch(2, "b"))
		after(time.Minute)
		w.halt()
		require.Len(t, logLines(buf), 1, buf)
	})
}
