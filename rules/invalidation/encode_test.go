package invalidation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

// genValue draws values that JSON has to escape, and some that are not UTF-8.
func genValue() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringMatching(`[a-z]{1,8}:[0-9]{0,6}`), rapid.String(), rapid.SampledFrom([]string{
		"", `"`, `\`, "<&>", "\x00\x1f\x7f", "\u2028\u2029", "é", "a\xffb", "],[", `\u0041`,
	}))
}

// fieldOf makes fields of hashes whose key and field are drawn from g.
func fieldOf(g *rapid.Generator[string]) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string { return JoinField(g.Draw(t, "key"), g.Draw(t, "field")) })
}

func genBatch(t *rapid.T) *Batch {
	b := &Batch{
		Sink: rapid.SampledFrom([]string{"cache", "edge-1", "<é>"}).Draw(t, "sink"), Origin: FromWAL,
		Flush: rapid.Bool().Draw(t, "flush"), Reason: rapid.SampledFrom([]string{"", "truncate", `"`}).Draw(t, "reason"),
		Supersedes: rapid.SampledFrom([]uint64{0, 9}).Draw(t, "supersedes"),
		Stamp: cdc.Stamp{
			Epoch: rapid.Uint64Max(3).Draw(t, "epoch"), XIDs: rapid.SliceOf(rapid.Uint64Max(1<<40)).Draw(t, "xids"),
			Position: cdc.Position{
				SystemID: rapid.SampledFrom([]string{"", "7571"}).Draw(t, "system"), Timeline: rapid.Uint32Max(2).Draw(t, "timeline"),
				LSN: cdc.LSN(rapid.Uint64().Draw(t, "lsn")),
			},
			FirstCommit: noon, LastCommit: noon.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "took"))),
		},
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "items") {
		item := Item{Rule: fmt.Sprint("rule-", i), Every: time.Duration(rapid.IntRange(0, 2).Draw(t, "every")) * time.Minute}
		for k := range NumKinds {
			value := genValue()
			if Kind(k) == Field {
				value = fieldOf(value)
			}
			item.Values[k] = rapid.SliceOfN(value, 0, 4).Draw(t, Kind(k).String())
		}
		if len(item.Values[Everything]) > 0 {
			item.Values[Everything] = []string{""}
		}
		if rapid.Bool().Draw(t, "collapse") {
			c := CoarserValues{Over: 7}
			c.Values[Tag] = rapid.SliceOfN(genValue(), 1, 2).Draw(t, "coarser")
			c.Values[Field] = rapid.SliceOfN(fieldOf(genValue()), 0, 2).Draw(t, "coarser fields")
			item.Coarser = []CoarserValues{c}
		}
		b.Items = append(b.Items, item)
	}
	return b
}

// Encode writes the bytes that the JSON library writes of the frozen format.
func TestPropertyEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := genBatch(t)
		data, err := Encode("shop", b)
		require.NoError(t, err)
		require.Equal(t, string(freeze(t, b)), string(data))
		var p frozenPayload
		strict := json.NewDecoder(bytes.NewReader(data))
		strict.DisallowUnknownFields()
		require.NoError(t, strict.Decode(&p))

		back, err := Decode(data)
		require.NoError(t, err)
		require.Equal(t, b.Stamp.XIDs, back.Stamp.XIDs)
		require.Len(t, back.Items, len(b.Items))
		for i := range b.Items {
			for k := range b.Items[i].Values {
				require.ElementsMatch(t, b.Items[i].Values[k], back.Items[i].Values[k])
			}
		}
	})
}

func manyKeys(n int) *Batch {
	b := &Batch{Sink: "cache", Origin: FromWAL, Items: []Item{{Rule: "product"}}, Stamp: cdc.Stamp{
		Position: cdc.Position{SystemID: "7571", Timeline: 1, LSN: 0x16B3748}, FirstCommit: noon, LastCommit: noon,
	}}
	for i := range n {
		b.Items[0].Values[Key] = append(b.Items[0].Values[Key], fmt.Sprint("product:", i))
		b.Stamp.XIDs = append(b.Stamp.XIDs, uint64(1000+i))
	}
	return b
}

// A batch costs the same few allocations whatever it holds: the payload, and the
// boxes of the two halves of its LSN.
func TestEncodeAllocates(t *testing.T) {
	for _, n := range []int{1, 1000} {
		b := manyKeys(n)
		require.LessOrEqual(t, testing.AllocsPerRun(50, func() { _, _ = Encode("shop", b) }), 3.0)
	}
}

// Reading costs a fixed number, too: the values are parts of one copy.
func TestDecodeAllocates(t *testing.T) {
	counts := map[int]float64{}
	for _, n := range []int{100, 1000} {
		data, err := Encode("shop", manyKeys(n))
		require.NoError(t, err)
		counts[n] = testing.AllocsPerRun(50, func() { _, _ = Decode(data) })
	}
	require.Equal(t, counts[100], counts[1000])
	require.LessOrEqual(t, counts[1000], 10.0)
}
