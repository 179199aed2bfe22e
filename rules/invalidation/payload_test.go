package invalidation

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 1000, time.UTC)

// The payload is a public format: in-process caches and webhooks read it.
func TestPayload(t *testing.T) {
	b := &Batch{
		Sink: "cache", Origin: FromWAL, Items: []Item{{Rule: "product"}},
		Stamp: cdc.Stamp{
			Epoch: 3, Position: cdc.Position{SystemID: "7571", Timeline: 2, LSN: 0x16B3748}, XIDs: []uint64{742, 750, 741},
			FirstCommit: noon.Add(-time.Second), LastCommit: noon.In(time.FixedZone("", 3600)),
		},
	}
	b.Items[0].Values[Key] = []string{"product:7"}
	data, err := Encode("shop", b)
	require.NoError(t, err)
	require.Equal(t, `{"v":1,"pipeline":"shop","sink":"cache","origin":"wal","lsn":"0/16B3748","system_id":"7571","timeline":2,"epoch":3,`+
		`"xids":[742,8,-9],"first_committed_at":"2026-11-20T11:59:59.000001Z","committed_at":"2026-11-20T12:00:00.000001Z",`+
		`"items":[{"rule":"product","keys":["product:7"],"tags":[],"urls":[],"url_prefixes":[],"key_prefixes":[],"generations":[]}],"flush":false}`,
		string(data))

	b.Items[0].Every = 90 * time.Second
	b.Items[0].Coarser = []CoarserValues{{Over: 500}, {Over: 20000}}
	b.Items[0].Coarser[0].Values[Tag] = []string{"merchant-1", "\xff"}
	b.Items[0].Coarser[1].Values[Generation] = []string{"products"}
	data, err = Encode("shop", b)
	require.NoError(t, err)
	require.Contains(t, string(data), `"generations":[],"collapse":[{"over":500,"tags":["merchant-1"],"base64":{"tag":["/w=="]}},{"over":20000,"generations":["products"]}],"every":"1m30s"}]`)

	b.Flush, b.Reason = true, "truncate"
	b.Items[0].Values = [NumKinds][]string{Key: {"ok", "\xff"}, KeyPattern: {"p:*"}, Everything: {""}}
	data, err = Encode("shop", b)
	require.NoError(t, err)
	require.Contains(t, string(data), `"keys":["ok"],`)
	require.Contains(t, string(data), `"key_patterns":["p:*"],"everything":true,"base64":{"key":["/w=="]}`)
	require.Contains(t, string(data), `"flush":true,"reason":"truncate"}`)
}

// drawBatch draws what a router can build: any bytes, no empty lists.
func drawBatch(t *rapid.T) *Batch {
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "us")).UTC()
	})
	value := rapid.OneOf(
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.String(),
		rapid.SampledFrom([]string{"", "\x00", "\xff\xfe", "<&>", "\u2028", `"\`, "\xed\xa0\x80"}),
	)
	b := &Batch{
		Sink: rapid.StringMatching(`[a-z][a-z0-9_]{0,9}`).Draw(t, "sink"), Origin: rapid.SampledFrom([]Origin{FromWAL, FromGap, FromHand}).Draw(t, "origin"),
		Flush: rapid.Bool().Draw(t, "flush"), Reason: rapid.SampledFrom([]string{"", "truncate"}).Draw(t, "reason"),
		Items: []Item{},
		Stamp: cdc.Stamp{
			Epoch:       rapid.Uint64().Draw(t, "epoch"),
			Position:    cdc.Position{SystemID: rapid.StringMatching(`[0-9]{0,20}`).Draw(t, "system"), Timeline: rapid.Uint32().Draw(t, "timeline"), LSN: cdc.LSN(rapid.Uint64().Draw(t, "lsn"))},
			XIDs:        append([]uint64{}, rapid.SliceOf(rapid.Uint64()).Draw(t, "xids")...),
			FirstCommit: instant.Draw(t, "first"), LastCommit: instant.Draw(t, "last"),
		},
	}
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		item := Item{Rule: rapid.String().Draw(t, "rule")}
		for k := range item.Values {
			switch {
			case Kind(k) == Field:
				item.Values[k] = rapid.SliceOfN(fieldOf(value), 0, 3).Draw(t, "fields")
			case Kind(k) != Everything:
				item.Values[k] = rapid.SliceOfN(value, 0, 3).Draw(t, "values")
			case rapid.Bool().Draw(t, "everything"):
				item.Values[k] = []string{""}
			}
		}
		for over := range rapid.IntRange(0, 2).Draw(t, "steps") {
			c := CoarserValues{Over: over + 1}
			for _, k := range []Kind{Tag, Generation} {
				c.Values[k] = rapid.SliceOfN(value, 1, 3).Draw(t, "coarser")
			}
			item.Coarser = append(item.Coarser, c)
		}
		item.Every = time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "every"))
		b.Items = append(b.Items, item)
	}
	return b
}

func TestBatchesSurviveTheStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawBatch(t)
		data, err := Encode("shop", want)
		require.NoError(t, err)
		require.True(t, json.Valid(data))
		got, err := Decode(data)
		require.NoError(t, err)
		require.ElementsMatch(t, want.Invalidations(nil), got.Invalidations(nil))
		require.Len(t, got.Items, len(want.Items))
		for i := range want.Items {
			require.Equal(t, want.Items[i].Rule, got.Items[i].Rule)
		}
		want.Items, got.Items = nil, nil
		require.Equal(t, want, got)
	})
}

func TestUnreadablePayloads(t *testing.T) {
	for _, bad := range []string{"", "null", "{}", "[]", `{"v":3}`, `{"v":1,"lsn":"x"}`, `{"v":1,"items":[{"base64":{"key":["?"]}}]}`, `{"v":1,"xids":[1.5]}`, `{"v":1,"committed_at":"noon"}`} {
		_, err := Decode([]byte(bad))
		require.Error(t, err, "%s", bad)
	}
	b, err := Decode([]byte(`{"v":1,"of_a_later_version":true,"items":[{"rule":"r","keys":["a"],"colours":[ ],"shade":null}]}`))
	require.NoError(t, err, "a member beside the items, or an empty one, asks for nothing")
	require.Equal(t, []Invalidation{{Kind: Key, Value: "a", Rule: "r"}}, b.Invalidations(nil))
}

// What an item names beside the kinds that this version knows may be values of a newer kind.
func TestUnknownKinds(t *testing.T) {
	own, err := Encode("shop", manyKeys(1))
	require.NoError(t, err)
	for unknown, items := range map[string]string{
		"colours": `{"rule":"r","keys":["a"],"colours":["red"]}`,
		"hues":    `{"rule":"r","keys":["a"],"collapse":[{"over":7,"hues":["red"]}]}`,
		"shade":   `{"rule":"r","keys":["a"],"base64":{"shade":["/w=="]}}`,
		"tint":    `{"rule":"r","keys":["a"],"collapse":[{"over":7,"base64":{"tint":["/w=="]}}]}`,
		"wash":    `{"rule":"r","keys":["a"],"wash":true}`,
		// A step with a kind that steps lack, and a field of a hash with a member of a later version.
		"key_patterns": `{"rule":"r","keys":["a"],"collapse":[{"over":7,"key_patterns":["p:*"]}]}`,
		"key_pattern":  `{"rule":"r","keys":["a"],"collapse":[{"over":7,"base64":{"key_pattern":["/w=="]}}]}`,
		"fields":       `{"rule":"r","keys":["a"],"fields":[{"key":"h","field":"1","wildcard":true}]}`,
	} {
		for _, payload := range []string{
			`{"v":1,"items":[{"rule":"s"},` + items + `]}`,
			string(bytes.Replace(own, []byte(`"items":[`), []byte(`"items":[`+items+`,`), 1)),
			string(bytes.Replace(own, []byte(`"generations":[]`), []byte(`"generations":[]`+strings.TrimSuffix(strings.TrimPrefix(items, `{"rule":"r","keys":["a"]`), "}")), 1)),
		} {
			b, err := Decode([]byte(payload))
			var u *UnknownKindError
			require.ErrorAs(t, err, &u, payload)
			require.Equal(t, unknown, u.Member)
			require.NotEmpty(t, b.Invalidations(nil), "what is known of it is there")
		}
	}
}

// A program of version 1 would take a message with fields for one without values, and acknowledge
// it. So such a message says that it is of version 2, which that program flushes the sink for.
func TestPayloadOfFields(t *testing.T) {
	b := &Batch{Sink: "cache", Origin: FromWAL, Items: []Item{{Rule: "product"}}, Stamp: cdc.Stamp{FirstCommit: noon, LastCommit: noon}}
	b.Items[0].Values[Field] = []string{JoinField("products", "7"), JoinField("a\x00b", "\xff")}
	data, err := Encode("shop", b)
	require.NoError(t, err)
	require.Contains(t, string(data), `{"v":2,"pipeline":"shop"`)
	require.Contains(t, string(data), `"generations":[],"fields":[{"key":"products","field":"7"},{"key":"YQBi","field":"/w==","base64":true}]}]`)
	require.True(t, readCanonical(data, new(payload)))

	b.Items[0].Coarser = []CoarserValues{{Over: 5}}
	b.Items[0].Coarser[0].Values[Field], b.Items[0].Values[Field] = b.Items[0].Values[Field], nil
	data, err = Encode("shop", b)
	require.NoError(t, err)
	require.Contains(t, string(data), `{"v":2,`)
	got, err := Decode(data)
	require.NoError(t, err)
	require.Equal(t, b.Items[0].Coarser, got.Items[0].Coarser)

	_, err = Decode([]byte(`{"v":2,"items":[{"fields":[{"key":"?","field":"","base64":true}]}]}`))
	require.Error(t, err)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"pipeline":"shop","sink":"cache","origin":"wal","lsn":"0/16B3748","xids":[742,-1],"committed_at":"2026-11-20T12:00:00Z",` +
		`"items":[{"rule":"r","keys":["a"],"base64":{"key":["/w=="]},"everything":true}],"flush":true}`))
	f.Add([]byte(`{"v":1,"items":[{},null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode("shop", b)
		if err != nil {
			return // a time that JSON cannot hold
		}
		back, err := Decode(again)
		require.NoError(t, err)
		require.ElementsMatch(t, b.Invalidations(nil), back.Invalidations(nil))
		require.Equal(t, b.Stamp.XIDs, back.Stamp.XIDs)
		require.Equal(t, b.Flush, back.Flush)
	})
}

// The payload carries templates whose values could not be built, and older programs do not mind.
func TestUnbuiltInThePayload(t *testing.T) {
	b := manyKeys(0)
	b.Items[0].Unbuilt = []Unbuilt{{Template: `p-{"<>&"}`, Of: Tag, Count: 7}}
	b.Items[0].Every = FallbackEvery
	b.Items[0].Values[KeyPattern] = []string{"p:*"}
	b.Items = append(b.Items, Item{Rule: "hand", Unbuilt: []Unbuilt{{Template: "cache.purge", Of: Everything, Count: 1}}})
	data, err := Encode("shop", b)
	require.NoError(t, err)
	require.Contains(t, string(data), `"every":"1m0s","unbuilt":[{"template":"p-{\"\u003c\u003e\u0026\"}","of":"tag","count":7}]}`)
	var p payload
	require.True(t, readCanonical(data, &p), "in one pass")
	decoded, err := Decode(data)
	require.NoError(t, err)
	require.Equal(t, b.Items[0].Unbuilt, decoded.Items[0].Unbuilt)
	require.Equal(t, b.Items[1].Unbuilt, decoded.Items[1].Unbuilt)
	require.Equal(t, []string{"p:*"}, decoded.Items[0].Values[KeyPattern])
}
