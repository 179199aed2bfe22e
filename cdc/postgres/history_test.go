package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestParseHistory(t *testing.T) {
	got, err := parseHistory("# a comment\n1\t0/3000148\tno recovery target specified\n\n2\t1/A0\tbefore 2026-11-26 21:00:00+00\n")
	require.NoError(t, err)
	require.Equal(t, []cdc.Ancestor{{Timeline: 1, End: 0x3000148}, {Timeline: 2, End: 0x1000000A0}}, got)
	for _, broken := range []string{"1\n", "one\t0/1\tx\n", "1\t0-1\tx\n"} {
		_, err := parseHistory(broken)
		require.ErrorContains(t, err, "unreadable line")
	}
	s := cdc.Session{Start: cdc.Position{Timeline: 3, LSN: 0x1000000B0}, End: 0x1000000C0, History: got}
	for _, tc := range []struct {
		timeline uint32
		lsn      cdc.LSN
		has      bool
	}{{1, 0x3000148, true}, {1, 0x3000149, false}, {2, 0x1000000A0, true}, {2, 0x1000000A1, false}, {3, 0x1000000C0, true}, {3, 0x1000000C1, false}, {4, 1, false}} {
		require.Equal(t, tc.has, s.Has(cdc.Position{Timeline: tc.timeline, LSN: tc.lsn}), "%d:%s", tc.timeline, tc.lsn)
	}
}
