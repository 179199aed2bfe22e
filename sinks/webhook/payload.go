package webhook

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// payload is the fixed form of a body, version 1. Its items have the members of
// those in the stream. What else a stream message has (positions, times) belongs
// to one transaction, and a batch can be of many.
type payload struct {
	V          int    `json:"v"`
	Items      []item `json:"items"`
	Everything bool   `json:"everything"`
}

// field is a field of a hash: its key and its field, both in base64 where one of them is not UTF-8.
type field struct {
	Key    string `json:"key"`
	Field  string `json:"field"`
	Base64 bool   `json:"base64,omitempty"`
}

func newField(value string) field {
	f := field{}
	f.Key, f.Field = invalidation.SplitField(value)
	if f.Base64 = !utf8.ValidString(value); f.Base64 {
		f.Key = base64.StdEncoding.EncodeToString([]byte(f.Key))
		f.Field = base64.StdEncoding.EncodeToString([]byte(f.Field))
	}
	return f
}

// item holds the values that one rule asked for. Values that are not UTF-8
// travel in base64, by the kind's name in the singular.
type item struct {
	Rule        string              `json:"rule"`
	Keys        []string            `json:"keys"`
	Tags        []string            `json:"tags"`
	URLs        []string            `json:"urls"`
	URLPrefixes []string            `json:"url_prefixes"`
	KeyPrefixes []string            `json:"key_prefixes"`
	Generations []string            `json:"generations"`
	Fields      []field             `json:"fields,omitempty"`
	Base64      map[string][]string `json:"base64,omitempty"`
}

func (i *item) list(k invalidation.Kind) *[]string {
	return [...]*[]string{
		invalidation.Key: &i.Keys, invalidation.Tag: &i.Tags, invalidation.URL: &i.URLs, invalidation.URLPrefix: &i.URLPrefixes,
		invalidation.KeyPrefix: &i.KeyPrefixes, invalidation.Generation: &i.Generations,
	}[k]
}

// encode writes the fixed form, items in the order in which their rules come.
func encode(batch []invalidation.Invalidation) ([]byte, error) {
	p := payload{V: 1, Items: []item{}}
	place := make(map[string]int)
	for _, inv := range batch {
		if inv.Kind == invalidation.Everything {
			p.Everything = true
			continue
		}
		n, known := place[inv.Rule]
		if !known {
			n = len(p.Items)
			place[inv.Rule] = n
			p.Items = append(p.Items, item{
				Rule: inv.Rule, Keys: []string{}, Tags: []string{}, URLs: []string{},
				URLPrefixes: []string{}, KeyPrefixes: []string{}, Generations: []string{},
			})
		}
		it := &p.Items[n]
		if inv.Kind == invalidation.Field {
			it.Fields = append(it.Fields, newField(inv.Value))
			continue
		}
		if utf8.ValidString(inv.Value) {
			list := it.list(inv.Kind)
			*list = append(*list, inv.Value)
			continue
		}
		if it.Base64 == nil {
			it.Base64 = make(map[string][]string)
		}
		it.Base64[inv.Kind.String()] = append(it.Base64[inv.Kind.String()], base64.StdEncoding.EncodeToString([]byte(inv.Value)))
	}
	return json.Marshal(p)
}
