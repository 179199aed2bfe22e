package shape

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestPack(t *testing.T) {
	table := Table{OID: 7, Kind: 'p', Persistence: 'p', Identity: 'd', Columns: []Column{
		{Number: 1, Name: `o"x`, Type: 25, Mod: -1, Labels: []Label{{OID: 9, Text: "a", Written: 7}}, Fields: "f", Generated: 's', Expression: "e", Filled: true, Written: 1 << 31}}}
	for i := range uint32(50_000) {
		table.Nodes = append(table.Nodes, Node{OID: 4_000_000_000 + 5*i, Parent: 7, Kind: 'r', Persistence: 'p', Identity: 'd', File: 4_000_000_000 + 5*i, Attached: 1000 + i})
	}
	table.Nodes[40_000].File, table.Nodes[40_001].Parent = 12, 4_000_000_000
	tables := []Table{table, {OID: 8}}
	data, err := Pack(tables)
	require.NoError(t, err)
	require.Less(t, len(data), 16<<10, "it fits a message")
	got, err := Unpack(data)
	require.NoError(t, err)
	require.Equal(t, tables, got)
	for _, bad := range [][]byte{nil, []byte("x"), data[:len(data)/2]} {
		_, err := Unpack(bad)
		require.Error(t, err)
	}
	require.True(t, table.Has(table.Nodes[31].OID))
	require.False(t, table.Has(table.Nodes[31].OID+1))
}

// TestArrivals: rows of a new partition are in the stream only if it was below the root from its
// creation on, at each level.
func TestArrivals(t *testing.T) {
	leaf := Node{OID: 10, Parent: 5, Kind: 'r', Persistence: 'p', File: 10}
	middle := Node{OID: 5, Parent: 1, Kind: 'p', Persistence: 'p'}
	for name, c := range map[string]struct {
		before, after []Node
		root          byte
		facts         Facts
		gap           bool
	}{
		"born below what was there":    {[]Node{middle}, []Node{middle, leaf}, 'p', Facts{Born: map[uint32]bool{10: true}}, false},
		"born with its parent":         {nil, []Node{middle, leaf}, 'p', Facts{Born: map[uint32]bool{10: true, 5: true}}, false},
		"the parent was attached":      {nil, []Node{middle, leaf}, 'p', Facts{Born: map[uint32]bool{10: true}}, true},
		"attached":                     {[]Node{middle}, []Node{middle, leaf}, 'p', Facts{}, true},
		"attached, empty":              {[]Node{middle}, []Node{middle, leaf}, 'p', Facts{Empty: map[uint32]bool{10: true}}, false},
		"with another file, empty":     {[]Node{middle}, []Node{middle, {OID: 10, Parent: 5, Kind: 'r', Persistence: 'p', File: 11}}, 'p', Facts{Empty: map[uint32]bool{10: true}}, true},
		"unlogged":                     {[]Node{middle}, []Node{middle, {OID: 10, Parent: 5, Kind: 'r', Persistence: 'u', File: 10}}, 'p', Facts{Born: map[uint32]bool{10: true}}, true},
		"a child":                      {nil, []Node{{OID: 10, Parent: 1, Kind: 'r', Persistence: 'p', File: 10}}, 'r', Facts{Born: map[uint32]bool{10: true}}, true},
		"a node with nothing below it": {nil, []Node{middle}, 'p', Facts{}, false},
	} {
		before, after := &Table{OID: 1, Kind: c.root, Nodes: c.before}, &Table{OID: 1, Kind: c.root, Nodes: c.after}
		var want []Difference
		if c.gap {
			want = []Difference{{Cause: cdc.LeafCame, Node: 10}}
		}
		require.Equal(t, want, Compare(before, after, c.facts), name)
		require.Len(t, Arrived(before, after), len(c.after)-len(c.before), name)
	}
}
