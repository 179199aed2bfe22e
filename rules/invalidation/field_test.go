package invalidation

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPropertyFields(t *testing.T) {
	text := rapid.Map(rapid.SliceOf(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 1, 2}))), func(b []byte) string { return string(b) })
	rapid.Check(t, func(t *rapid.T) {
		key, field := text.Draw(t, "key"), text.Draw(t, "field")
		value := JoinField(key, field)
		gotKey, gotField := SplitField(value)
		require.Equal(t, [2]string{key, field}, [2]string{gotKey, gotField})
		if other, more := text.Draw(t, "other key"), text.Draw(t, "other field"); other != key || more != field {
			require.NotEqual(t, value, JoinField(other, more))
			require.NotEqual(t, Field.Text(value), Field.Text(JoinField(other, more)))
		}
		require.Equal(t, 1, bytes.Count([]byte(value), []byte{FieldSeparator}))
	})
}
