package machine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestThePacerForgets(t *testing.T) {
	p := newPacer()
	now := time.Unix(0, 0)
	v := func(n int) value { return value{invalidation.Key, string(rune('a' + n))} }
	p.note(v(0), time.Minute, now)
	p.note(v(0), time.Minute, now.Add(50*time.Second))
	p.note(v(1), time.Minute, now.Add(70*time.Second))
	require.Len(t, p.last, 2, "the later purge counts")
	p.note(v(2), time.Minute, now.Add(time.Hour))
	require.Len(t, p.last, 1)
	require.Len(t, p.order, 1)
	for n := range 2 * maxPaced {
		p.note(v(n), time.Hour, now.Add(time.Hour))
	}
	require.Len(t, p.last, maxPaced)
	require.Len(t, p.order, maxPaced)
}
