package stream

import (
	"regexp"
	"strings"
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
			Leader:   cdc.Leader{Address: rapid.SampledFrom([]string{"", "10.0.0.7:7468"}).Draw(t, "address"), Host: rapid.SampledFrom([]string{"", "node-a"}).Draw(t, "host")},
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

// A claim is no proof once it names another leader.
func TestTheProofCoversTheLeader(t *testing.T) {
	key := newProofKey()
	data, err := encodeClaim(cdc.Claim{Epoch: 1, CommitTime: noon, Leader: cdc.Leader{Address: "10.0.0.7:7468", Host: "a"}}, key)
	require.NoError(t, err)
	for _, change := range [][2]string{{"10.0.0.7", "10.0.0.8"}, {`"host":"a"`, `"host":"b"`}, {`7468","host":"a"`, `74","host":"68a"`}} {
		forged := strings.Replace(string(data), change[0], change[1], 1)
		require.NotEqual(t, string(data), forged)
		got, err := decodeClaim([]byte(forged), key)
		require.NoError(t, err)
		require.False(t, got.Own, forged)
	}
}

func TestUnreadableClaims(t *testing.T) {
	for _, bad := range []string{"", "null", "{}", `{"v":2}`, `{"v":1,"claim":"0"}`, `{"v":1,"claim":"0/1","epoch":-1}`, `{"v":1,"claim":"0/1","epoch":4611686018427387904}`} {
		_, err := decodeClaim([]byte(bad), newProofKey())
		require.Error(t, err, "%s", bad)
	}
}
