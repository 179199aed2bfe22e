package condition

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	closedGate = Text{Level: slog.LevelWarn, On: "gate still closed, purging without it", Off: "gate open"}
	shadowed   = Text{Level: slog.LevelInfo, On: "not purged"}
)

// lines runs do on a fake clock and returns what the log has after it, without times of day.
func lines(t *testing.T, do func(l *Log)) (out []string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var buf bytes.Buffer
		l := NewLog(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		do(l)
		l.Close()
		time.Sleep(24 * time.Hour) // what is closed says nothing more
		out = strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
	})
	return out
}

func TestACondition(t *testing.T) {
	require.Equal(t, []string{
		`level=WARN msg="gate still closed, purging without it" gate=visible waited=30s early=1`,
		`level=INFO msg="gate open" gate=visible lasted=49.92s early=416`,
	}, lines(t, func(l *Log) {
		c := l.At(closedGate, "gate", "visible")
		c.End()
		for range 416 {
			c.Observe("waited", 30*time.Second, "early", Sum(1))
			time.Sleep(120 * time.Millisecond)
		}
		c.End()
		c.End()
	}))
}

// TestALastingCondition: an error with a request id in each text is one condition, and one that
// sees no further occurrence is summarised all the same.
func TestALastingCondition(t *testing.T) {
	out := lines(t, func(l *Log) {
		for i := range 60 {
			l.At(closedGate, "class", "lane").Observe("err", fmt.Errorf("refused, request %d", i), "retries", Sum(1))
			time.Sleep(59 * time.Second)
		}
		time.Sleep(time.Hour + 30*time.Second)
		l.At(closedGate, "class", "lane").End("code", 403)
		time.Sleep(time.Hour)
	})
	require.Len(t, out, 1+11+1)
	require.Equal(t, `level=WARN msg="gate still closed, purging without it" class=lane lasting=10m0s err="refused, request 10" retries=11`, out[1])
	require.Equal(t, `level=INFO msg="gate open" class=lane lasted=1h59m30s retries=60 code=403`, out[12])
}

// TestAnUnstableCondition begins and ends every second for an hour.
func TestAnUnstableCondition(t *testing.T) {
	out := lines(t, func(l *Log) {
		c := l.At(closedGate)
		for range 1800 {
			c.Observe("retries", Sum(1))
			time.Sleep(time.Second)
			c.End()
			time.Sleep(time.Second)
		}
		time.Sleep(Period + time.Second)
	})
	require.Len(t, out, 3+6+1)
	require.Contains(t, out[2], "times=2")
	require.Equal(t, `level=INFO msg="gate open" lasted=59m59s times=1800 retries=1800`, out[9])
}

// TestEveryRhythm bounds the lines of an hour whatever the lengths of on and off are.
func TestEveryRhythm(t *testing.T) {
	for _, on := range []time.Duration{0, time.Second, time.Minute, 9 * time.Minute, 11 * time.Minute} {
		for _, off := range []time.Duration{time.Second, time.Minute, 9*time.Minute + 59*time.Second, Period, 11 * time.Minute} {
			out := lines(t, func(l *Log) {
				for began := time.Now(); time.Since(began) < time.Hour; {
					l.At(closedGate).Observe()
					time.Sleep(on)
					l.At(closedGate).End()
					time.Sleep(off)
				}
			})
			require.LessOrEqual(t, len(out), 24, "on %v off %v", on, off)
		}
	}
}

// TestAConditionWithoutEnd ends in silence.
func TestAConditionWithoutEnd(t *testing.T) {
	require.Equal(t, []string{
		"level=INFO msg=\"not purged\" items=3",
		"level=INFO msg=\"not purged\" lasting=10m0s items=1803",
		"level=INFO msg=\"not purged\" lasting=20m0s items=3603",
		"level=INFO msg=\"not purged\" items=5",
	}, lines(t, func(l *Log) {
		for range 1201 {
			l.At(shadowed).Observe("items", Sum(3))
			time.Sleep(999 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		l.At(shadowed).Observe("items", Sum(5))
	}))
}

func TestManyConditions(t *testing.T) {
	out := lines(t, func(l *Log) {
		for i := range 5 {
			l.At(closedGate, "gate", fmt.Sprint(i)).Observe("err", errors.New("x"))
			time.Sleep(time.Minute)
		}
		time.Sleep(6*time.Minute + time.Second)
		require.True(t, l.At(closedGate, "gate", "3").On())
		l.At(closedGate, "gate", "3").End()
		require.False(t, l.At(closedGate, "gate", "3").On())
	})
	require.Len(t, out, 5+2+1)
	require.Contains(t, out[6], "gate=1 lasting=10m0s")
	require.Contains(t, out[7], "gate=3 lasted=8m1s")
}
