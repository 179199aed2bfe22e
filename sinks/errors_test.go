package sinks

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClassSurvivesWrapping(t *testing.T) {
	base := errors.New("refused")
	for _, tc := range []struct {
		err   error
		class Class
		after time.Duration
	}{
		{base, Transient, 0},
		{ItemError(base), Item, 0},
		{LaneError(base), Lane, 0},
		{ThrottledError(base, 7*time.Second), Throttled, 7 * time.Second},
	} {
		class, after := ClassOf(fmt.Errorf("request: %w", tc.err))
		require.Equal(t, tc.class, class)
		require.Equal(t, tc.after, after)
		require.ErrorIs(t, tc.err, base)
		require.Equal(t, "refused", tc.err.Error())
	}
}

func TestBatchErrorTellsTheFirstFailureByPlace(t *testing.T) {
	err := &BatchError{Failed: map[int]error{7: errors.New("late"), 2: ItemError(errors.New("too long"))}}
	require.Equal(t, "2 invalidations failed, the first: too long", err.Error())
	class, _ := ClassOf(err)
	require.Equal(t, Item, class)
}
