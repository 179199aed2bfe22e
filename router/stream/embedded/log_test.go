package embedded

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// The server recovers its streams side by side, and each may have words to say.
func TestTheLogIsSharedByManyGoroutines(t *testing.T) {
	var said bytes.Buffer
	l := &logger{log: slog.New(slog.NewTextHandler(&said, nil))}
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
}
