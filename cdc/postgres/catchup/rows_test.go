package catchup

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func header() []byte { return append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...) }

func row(data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 2)
	b = binary.BigEndian.AppendUint32(b, 8)
	b = binary.BigEndian.AppendUint64(b, 12345)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func TestRows(t *testing.T) {
	var r Rows
	data, err := r.Data(append(header(), row([]byte("one"))...))
	require.NoError(t, err)
	require.Equal(t, "one", string(data))
	data, err = r.Data(row([]byte{}))
	require.NoError(t, err)
	require.NotNil(t, data)
	require.Empty(t, data)
	require.False(t, r.Ended())
	data, err = r.Data([]byte{0xff, 0xff})
	require.NoError(t, err)
	require.Nil(t, data)
	require.True(t, r.Ended())
	_, err = r.Data(row([]byte("more")))
	require.Error(t, err)

	var none Rows
	data, err = none.Data(append(header(), 0xff, 0xff))
	require.NoError(t, err)
	require.Nil(t, data)
	require.True(t, none.Ended())
}

// TestMalformedRows cuts and changes messages: what is not a row is an error, never a panic or other data.
func TestMalformedRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "data")
		m := append(header(), row(data)...)
		switch rapid.IntRange(0, 2).Draw(t, "fault") {
		case 0:
			m = m[:rapid.IntRange(0, len(m)-1).Draw(t, "length")]
		case 1:
			m = append(m, 0)
		case 2:
			i := rapid.SampledFrom([]int{0, 5, 10, 14, 18, 20, 24, 33, 34, 35, 36}).Draw(t, "at")
			m[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		}
		var r Rows
		got, err := r.Data(m)
		require.Error(t, err)
		require.Nil(t, got)
	})
}

func FuzzRows(f *testing.F) {
	f.Add(append(header(), row([]byte("one"))...), []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var r Rows
		for _, m := range [][]byte{first, second} {
			if data, err := r.Data(m); err != nil || data == nil {
				return
			}
		}
	})
}
