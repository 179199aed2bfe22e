package embedded

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/condition"
)

// The server recovers its streams side by side, and each may have words to say.
func TestTheLogIsSharedByManyGoroutines(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	l := &logger{log: log, conditions: condition.NewLog(log)}
	defer l.conditions.Close()
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 50 {
				l.Warnf("stream %d", n)
			}
		})
	}
	wg.Wait()
	require.Regexp(t, `^stream \d$`, l.lastError())
	l.Errorf("last")
	require.Equal(t, "last", l.lastError())
	l.Warnf("127.0.0.1:4222 - cid:%d is slow", 1)
	l.Warnf("127.0.0.1:50123 - cid:%d is slow", 2)
	require.Equal(t, 3, strings.Count(said.String(), "\n"), "one line for each kind of words")
}
