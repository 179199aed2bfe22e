package invalidation

import (
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// frozenPayload is the format as versions 1 and 2 have it, written out for the JSON library. Other
// programs read and write it, so it does not follow the table of kinds: a new kind is added here as
// a member that may be missing.
type frozenPayload struct {
	V        int          `json:"v"`
	Pipeline string       `json:"pipeline"`
	Sink     string       `json:"sink"`
	Origin   string       `json:"origin"`
	LSN      cdc.LSN      `json:"lsn"`
	SystemID string       `json:"system_id,omitempty"`
	Timeline uint32       `json:"timeline,omitempty"`
	Epoch    uint64       `json:"epoch,omitempty"`
	XIDs     []int64      `json:"xids"`
	First    time.Time    `json:"first_committed_at"`
	Last     time.Time    `json:"committed_at"`
	Items    []frozenItem `json:"items"`
	Flush    bool         `json:"flush"`
	Reason   string       `json:"reason,omitempty"`

	Supersedes uint64 `json:"supersedes,omitempty"`
}

type frozenItem struct {
	Rule        string              `json:"rule"`
	Keys        []string            `json:"keys"`
	Tags        []string            `json:"tags"`
	URLs        []string            `json:"urls"`
	URLPrefixes []string            `json:"url_prefixes"`
	KeyPrefixes []string            `json:"key_prefixes"`
	Generations []string            `json:"generations"`
	KeyPatterns []string            `json:"key_patterns,omitempty"`
	Fields      []frozenField       `json:"fields,omitempty"`
	Everything  bool                `json:"everything,omitempty"`
	Base64      map[string][]string `json:"base64,omitempty"`
	Collapse    []frozenStep        `json:"collapse,omitempty"`
	Every       string              `json:"every,omitempty"`
	Unbuilt     []struct {
		Template string `json:"template"`
		Of       string `json:"of"`
		Count    int    `json:"count"`
	} `json:"unbuilt,omitempty"`
}

type frozenStep struct {
	Over        int                 `json:"over"`
	Keys        []string            `json:"keys,omitempty"`
	Tags        []string            `json:"tags,omitempty"`
	URLs        []string            `json:"urls,omitempty"`
	URLPrefixes []string            `json:"url_prefixes,omitempty"`
	KeyPrefixes []string            `json:"key_prefixes,omitempty"`
	Generations []string            `json:"generations,omitempty"`
	Fields      []frozenField       `json:"fields,omitempty"`
	Base64      map[string][]string `json:"base64,omitempty"`
}

type frozenField struct {
	Key    string `json:"key"`
	Field  string `json:"field"`
	Base64 bool   `json:"base64,omitempty"`
}

// freeze returns what the format makes of a batch.
func freeze(t require.TestingT, b *Batch) []byte {
	at := b.Stamp.Position
	p := frozenPayload{
		V: 1, Pipeline: "shop", Sink: b.Sink, Origin: string(b.Origin), LSN: at.LSN, SystemID: at.SystemID, Timeline: at.Timeline, Epoch: b.Stamp.Epoch,
		XIDs: []int64{}, First: b.Stamp.FirstCommit.UTC(), Last: b.Stamp.LastCommit.UTC(), Items: []frozenItem{}, Flush: b.Flush, Reason: b.Reason, Supersedes: b.Supersedes,
	}
	before := uint64(0)
	for _, x := range b.Stamp.XIDs {
		p.XIDs, before = append(p.XIDs, int64(x-before)), x
	}
	for i := range b.Items {
		in, out := &b.Items[i], frozenItem{Rule: b.Items[i].Rule}
		for k, list := range map[Kind]*[]string{
			Key: &out.Keys, Tag: &out.Tags, URL: &out.URLs, URLPrefix: &out.URLPrefixes, KeyPrefix: &out.KeyPrefixes, Generation: &out.Generations, KeyPattern: &out.KeyPatterns,
		} {
			*list = frozenTexts(k, []string{}, in.Values[k], &out.Base64)
		}
		out.Fields, out.Everything = frozenFields(in.Values[Field], &p.V), len(in.Values[Everything]) > 0
		for n := range in.Coarser {
			from, step := &in.Coarser[n], frozenStep{Over: in.Coarser[n].Over}
			for k, list := range map[Kind]*[]string{
				Key: &step.Keys, Tag: &step.Tags, URL: &step.URLs, URLPrefix: &step.URLPrefixes, KeyPrefix: &step.KeyPrefixes, Generation: &step.Generations,
			} {
				*list = frozenTexts(k, nil, from.Values[k], &step.Base64)
			}
			step.Fields = frozenFields(from.Values[Field], &p.V)
			out.Collapse = append(out.Collapse, step)
		}
		if in.Every > 0 {
			out.Every = in.Every.String()
		}
		p.Items = append(p.Items, out)
	}
	data, err := json.Marshal(&p)
	require.NoError(t, err)
	return data
}

func frozenTexts(k Kind, list, values []string, inBase64 *map[string][]string) []string {
	for _, v := range values {
		if utf8.ValidString(v) {
			list = append(list, v)
			continue
		}
		if *inBase64 == nil {
			*inBase64 = map[string][]string{}
		}
		(*inBase64)[k.String()] = append((*inBase64)[k.String()], base64.StdEncoding.EncodeToString([]byte(v)))
	}
	return list
}

func frozenFields(values []string, version *int) (out []frozenField) {
	for _, v := range values {
		*version = 2
		f := frozenField{Base64: !utf8.ValidString(v)}
		if f.Key, f.Field = SplitField(v); f.Base64 {
			f.Key, f.Field = base64.StdEncoding.EncodeToString([]byte(f.Key)), base64.StdEncoding.EncodeToString([]byte(f.Field))
		}
		out = append(out, f)
	}
	return out
}
