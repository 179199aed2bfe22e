package pgoutput

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Nothing of a transaction but the description of its tables is allocated for.
func TestDecodingRowsDoesNotAllocate(t *testing.T) {
	d := NewDecoder()
	_, err := d.Decode(products())
	require.NoError(t, err)
	row := func(mark byte) []any { return []any{mark, uint16(3), text("123456"), text("slug"), byte('n')} }
	for name, m := range map[string][]byte{
		"begin":  msg('B', uint64(190), uint64(1), uint32(742)),
		"insert": msg('I', append([]any{uint32(7)}, row('N')...)...),
		"update": msg('U', append(append([]any{uint32(7)}, row('K')...), row('N')...)...),
		"delete": msg('D', append([]any{uint32(7)}, row('O')...)...),
		"commit": msg('C', byte(0), uint64(190), uint64(200), uint64(1)),
	} {
		_, err := d.Decode(m) // grows the scratch space
		require.NoError(t, err, name)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = d.Decode(m) }), name)
	}
}
