package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What is in flight when intake ends has drain_timeout, and not more.
func TestWorkOutlivesIntakeByDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		intake, stop := context.WithCancel(t.Context())
		work, end := outlive(intake, 20*time.Second)
		defer end()
		time.Sleep(time.Hour)
		require.NoError(t, work.Err())
		began := time.Now()
		stop()
		<-work.Done()
		require.Equal(t, 20*time.Second, time.Since(began))
	})
	synctest.Test(t, func(t *testing.T) {
		work, end := outlive(t.Context(), time.Hour)
		end()
		<-work.Done()
	})
}
