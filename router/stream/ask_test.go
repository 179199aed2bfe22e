package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// silent is a server that leaves so many questions unanswered.
func silent(n int, then error) func(context.Context) (int, error) {
	asked := 0
	return func(ctx context.Context) (int, error) {
		if asked++; asked > n {
			return asked, then
		}
		<-ctx.Done()
		return 0, ctx.Err()
	}
}

func TestAQuestionThatIsLostIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		minute, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		asked, err := ask(minute, silent(2, nil))
		require.NoError(t, err)
		require.Equal(t, 3, asked)
		require.Equal(t, 3*askAgain, time.Since(began))
	})
}

func TestAQuestionThatNobodyAnswersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := ask(t.Context(), silent(1000, nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, askFor, time.Since(began), "the context does not say how long")

		began = time.Now()
		minute, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = ask(minute, silent(1000, nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

func TestARefusalIsAnAnswer(t *testing.T) {
	refused := errors.New("no such message")
	asked, err := ask(t.Context(), silent(0, refused))
	require.ErrorIs(t, err, refused)
	require.Equal(t, 1, asked)
}
