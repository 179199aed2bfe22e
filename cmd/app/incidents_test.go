package app

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/status"
)

func TestIncidentsRemembersTheNewest(t *testing.T) {
	var i incidents
	require.Equal(t, []status.Incident{}, i.newestFirst(), "none is an empty list in JSON")
	for n := range maxIncidents + 3 {
		i.add("flush", "cache", strconv.Itoa(n))
	}
	got := i.newestFirst()
	require.Len(t, got, maxIncidents)
	require.Equal(t, "12", got[0].Reason)
	require.Equal(t, "3", got[maxIncidents-1].Reason)
	require.Equal(t, "cache", got[0].Sink)
	require.False(t, got[0].At.Before(got[1].At))
	got[0].Reason = "changed by a reader"
	require.Equal(t, "12", i.newestFirst()[0].Reason)
}
