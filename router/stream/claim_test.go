package stream

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

func TestProgressPayload(t *testing.T) {
	data, err := encodeClaim(cdc.Claim{Epoch: 3, Counter: 9, Position: cdc.Position{SystemID: "7571", Timeline: 2, LSN: 0x16B3748}, CommitTime: noon}, proofKey("key"))
	require.NoError(t, err)
	require.Equal(t, `{"v":1,"epoch":3,"counter":9,"claim":"0/16B3748","system_id":"7571","timeline":2,"committed_at":"2026-11-20T12:00:00.000001Z","proof":"cHJvb2Y="}`, regexp.MustCompile(`[A-Za-z0-9+/]{22}==`).ReplaceAllString(string(data), "cHJvb2Y="))
}

func TestClaimsSurviveTheStream(t *testing.T) {
	key := newProofKey()
	rapid.Check(t, func(t *rapid.T) {
		want := cdc.Claim{
			Epoch: rapid.Uint64Max(maxEpoch-1).Draw(t, "epoch"), Own: true, Counter: rapid.Uint64().Draw(t, "counter"), CommitTime: noon,
			Position: cdc.Position{SystemID: "7571", Timeline: rapid.Uint32().Draw(t, "timeline"), LSN: cdc.LSN(rapid.Uint64().Draw(t, "lsn"))},
		}
		data, err := encodeClaim(want, key)
		require.NoError(t, err)
		got, err := decodeClaim(data, key)
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, err = decodeClaim(data, newProofKey())
		require.NoError(t, err)
		want.Own = false
		require.Equal(t, want, got, "another process does not know whose it is")
	})
}

func TestUnreadableClaims(t *testing.T) {
	for _, bad := range []string{"", "null", "{}", `{"v":2}`, `{"v":1,"claim":"0"}`, `{"v":1,"claim":"0/1","epoch":-1}`, `{"v":1,"claim":"0/1","epoch":4611686018427387904}`} {
		_, err := decodeClaim([]byte(bad), newProofKey())
		require.Error(t, err, "%s", bad)
	}
}
