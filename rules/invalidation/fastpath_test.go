package invalidation

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// agrees fails if a payload is taken for our own and the JSON library reads
// something else.
func agrees(t require.TestingT, data []byte) (own bool) {
	var got, want payload
	if !readCanonical(data, &got) {
		return false
	}
	require.NoError(t, json.Unmarshal(data, &want), "%s", data)
	require.Equal(t, want, got, "%s", data)
	return true
}

func TestPropertyFastPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, err := Encode("shop", genBatch(t))
		require.NoError(t, err)
		require.True(t, agrees(t, data), "%s", data)

		// One wrong byte, or the payload cut short.
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		require.False(t, agrees(t, data[:at]))
		data[at] = rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte(`"\,:[]{}-0 `))).Draw(t, "byte")
		agrees(t, data)
	})
}

func TestWhatOthersWrite(t *testing.T) {
	data, err := Encode("shop", manyKeys(2))
	require.NoError(t, err)
	want, err := Decode(data)
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(data, &members))
	for _, indent := range []string{"", " "} { // by name, not in our order
		other, err := json.MarshalIndent(members, "", indent)
		require.NoError(t, err)
		require.False(t, readCanonical(other, new(payload)))
		got, err := Decode(other)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func FuzzFastPath(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		data, err := Encode("shop", manyKeys(n))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"v":1,"pipeline":"s","sink":"c","origin":"wal","lsn":"0/1","xids":[7,-1],"first_committed_at":"2026-11-20T12:00:00Z",` +
		`"committed_at":"2026-11-20T12:00:00Z","items":[{"rule":"r","keys":["\u0026"],"tags":[],"urls":[],"url_prefixes":[],"key_prefixes":[],` +
		`"generations":[],"key_patterns":["*"],"everything":true,"base64":{"key":["/w=="]},"collapse":[{"over":7,"tags":["t"]}],"every":"1m0s"}],` +
		`"flush":true,"reason":"truncate","supersedes":9}`))
	f.Fuzz(func(t *testing.T, data []byte) { agrees(t, data) })
}

func BenchmarkDecode(b *testing.B) {
	data, err := Encode("shop", manyKeys(500))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
