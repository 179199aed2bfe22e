package cdc

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLSNText(t *testing.T) {
	require.Equal(t, "16/B374D848", LSN(0x16B374D848).String())
	for _, bad := range []string{"", "16", "16/", "/1", "x/1", "1/1/1", "1/100000000", "-1/0", "0x1/0"} {
		_, err := ParseLSN(bad)
		require.Error(t, err, "%q", bad)
		require.Contains(t, err.Error(), "LSN")
	}
	rapid.Check(t, func(t *rapid.T) {
		l := LSN(rapid.Uint64().Draw(t, "lsn"))
		b, err := json.Marshal(l)
		require.NoError(t, err)
		var back LSN
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, l, back)
	})
}

func TestPositionOrder(t *testing.T) {
	require.True(t, Position{Timeline: 1, LSN: 9}.Before(Position{Timeline: 2, LSN: 1}), "a newer timeline is after")
	require.False(t, Position{Timeline: 1, LSN: 9}.Before(Position{Timeline: 1, LSN: 9}))
	require.True(t, Position{}.Before(Position{Timeline: 1}))
}
