package invalidation

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/walpurge/walpurge/cdc"
)

// payload is the JSON form of a batch: version 1, or version 2 where it names fields of hashes,
// which readers of version 1 would take for nothing. Readers must ignore members that they do
// not know, but not those of an item: they may be values.
type payload struct {
	V        int       `json:"v"`
	Pipeline string    `json:"pipeline"`
	Sink     string    `json:"sink"`
	Origin   string    `json:"origin"`
	LSN      cdc.LSN   `json:"lsn"`
	SystemID string    `json:"system_id,omitempty"`
	Timeline uint32    `json:"timeline,omitempty"`
	Epoch    uint64    `json:"epoch,omitempty"`
	XIDs     []int64   `json:"xids"` // the first absolute, each next as the difference to the one before
	First    time.Time `json:"first_committed_at"`
	Last     time.Time `json:"committed_at"`
	Items    []item    `json:"items"`
	Flush    bool      `json:"flush"`
	Reason   string    `json:"reason,omitempty"`

	Supersedes uint64 `json:"supersedes,omitempty"`
}

// item holds values by kind. Values that are not UTF-8 travel in base64 in a
// member of their own.
type item struct {
	Rule        string              `json:"rule"`
	Keys        []string            `json:"keys"`
	Tags        []string            `json:"tags"`
	URLs        []string            `json:"urls"`
	URLPrefixes []string            `json:"url_prefixes"`
	KeyPrefixes []string            `json:"key_prefixes"`
	Generations []string            `json:"generations"`
	KeyPatterns []string            `json:"key_patterns,omitempty"`
	Fields      []field             `json:"fields,omitempty"`
	Everything  bool                `json:"everything,omitempty"`
	Base64      map[string][]string `json:"base64,omitempty"`
	Collapse    []coarser           `json:"collapse,omitempty"`
	Every       string              `json:"every,omitempty"`
	Unbuilt     []unbuilt           `json:"unbuilt,omitempty"`
}

// field is the JSON form of a Field: its key and its field, both in base64 where one of them is
// not UTF-8.
type field struct {
	Key    string `json:"key"`
	Field  string `json:"field"`
	Base64 bool   `json:"base64,omitempty"`
}

func encodeFields(values []string) []field {
	var out []field
	for _, v := range values {
		f := field{}
		f.Key, f.Field = SplitField(v)
		if f.Base64 = !utf8.ValidString(v); f.Base64 {
			f.Key = base64.StdEncoding.EncodeToString([]byte(f.Key))
			f.Field = base64.StdEncoding.EncodeToString([]byte(f.Field))
		}
		out = append(out, f)
	}
	return out
}

func decodeFields(all []field) ([]string, error) {
	var out []string
	for _, f := range all {
		if f.Base64 {
			key, err := base64.StdEncoding.DecodeString(f.Key)
			if err != nil {
				return nil, fmt.Errorf("base64 key: %w", err)
			}
			name, err := base64.StdEncoding.DecodeString(f.Field)
			if err != nil {
				return nil, fmt.Errorf("base64 field: %w", err)
			}
			f.Key, f.Field = string(key), string(name)
		}
		out = append(out, JoinField(f.Key, f.Field))
	}
	return out, nil
}

// unbuilt is the JSON form of a template whose values could not be built.
type unbuilt struct {
	Template string `json:"template"`
	Of       string `json:"of"`
	Count    int    `json:"count"`
}

func encodeUnbuilt(all []Unbuilt) []unbuilt {
	out := make([]unbuilt, len(all))
	for i, u := range all {
		out[i] = unbuilt{Template: u.Template, Of: u.Of.String(), Count: u.Count}
	}
	return out
}

// decodeUnbuilt takes a kind that this program does not know for one that may be any.
func decodeUnbuilt(all []unbuilt) []Unbuilt {
	var out []Unbuilt
	for _, u := range all {
		of := Everything
		for k := range Everything {
			if k.String() == u.Of {
				of = k
			}
		}
		out = append(out, Unbuilt{Template: u.Template, Of: of, Count: u.Count})
	}
	return out
}

func (i *item) list(k Kind) *[]string {
	switch k {
	case Key:
		return &i.Keys
	case Tag:
		return &i.Tags
	case URL:
		return &i.URLs
	case URLPrefix:
		return &i.URLPrefixes
	case KeyPrefix:
		return &i.KeyPrefixes
	case Generation:
		return &i.Generations
	case KeyPattern:
		return &i.KeyPatterns
	}
	return nil
}

func decodeItem(in *item) (Item, error) {
	out := Item{Rule: in.Rule}
	for k := range out.Values {
		kind := Kind(k)
		if kind == Everything {
			if in.Everything {
				out.Values[k] = []string{""}
			}
			continue
		}
		if kind == Field {
			var err error
			if out.Values[k], err = decodeFields(in.Fields); err != nil {
				return out, err
			}
			continue
		}
		out.Values[k] = *in.list(kind)
		for _, s := range in.Base64[kind.String()] {
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return out, fmt.Errorf("base64 %s: %w", kind, err)
			}
			out.Values[k] = append(out.Values[k], string(b))
		}
	}
	var err error
	if out.Coarser, err = decodeCoarser(in.Collapse); err != nil {
		return out, err
	}
	out.Unbuilt = decodeUnbuilt(in.Unbuilt)
	out.Every, err = parsePeriod(in.Every)
	return out, err
}

// UnknownKindError says that a message names values of a kind that this version does not know: a
// newer version wrote it.
type UnknownKindError struct{ Member string }

// Error names the member of the message.
func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("it names %q, which this version of walpurge does not know; run the version that wrote it, or a newer one", e.Member)
}

// newest is the version of payloads that this program writes at most.
const newest = 2

// Decode reads the payload of a message. With an *UnknownKindError, the batch is there as far as
// it is known.
func Decode(data []byte) (*Batch, error) {
	var p payload
	var unknown error
	if !readCanonical(data, &p) {
		p = payload{}
		if err := json.Unmarshal(data, &p); err != nil {
			return nil, err
		}
		unknown = unknownMember(data)
	}
	if p.V < 1 || p.V > newest {
		return nil, fmt.Errorf("payload version %d, this program knows versions up to %d", p.V, newest)
	}
	b, err := p.batch()
	if err != nil {
		return nil, err
	}
	return b, unknown
}

// unknownMember finds a member of an item, or of a step that replaces its values, which this
// version does not know and which is not empty. Members beside the items may be unknown.
func unknownMember(data []byte) error {
	type members = map[string]json.RawMessage
	var p struct{ Items []members }
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	check := func(m members, of any) error {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if name == "base64" {
				var byKind map[string][]string
				if err := json.Unmarshal(m[name], &byKind); err != nil {
					return err
				}
				if kind := unknownKind(byKind); kind != "" {
					return &UnknownKindError{kind}
				}
			}
			if !hasMember(of, name) && !emptyJSON(m[name]) {
				return &UnknownKindError{name}
			}
		}
		return nil
	}
	for _, i := range p.Items {
		if err := check(i, item{}); err != nil {
			return err
		}
		var steps []members
		if raw, given := i["collapse"]; given {
			if err := json.Unmarshal(raw, &steps); err != nil {
				return err
			}
		}
		for _, step := range steps {
			if err := check(step, coarser{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasMember reports whether a struct has a member of that name, which the JSON library compares
// without regard to case.
func hasMember(of any, name string) bool {
	t := reflect.TypeOf(of)
	for i := range t.NumField() {
		known, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if strings.EqualFold(known, name) {
			return true
		}
	}
	return false
}

// emptyJSON reports whether a value asks for nothing.
func emptyJSON(raw json.RawMessage) bool {
	return slices.Contains([]string{"null", "[]", "{}", "false", "0", `""`}, string(bytes.Join(bytes.Fields(raw), nil)))
}

// unknownKind is a kind of values in base64 that this version does not know, or empty.
func unknownKind(byKind map[string][]string) string {
	for _, name := range slices.Sorted(maps.Keys(byKind)) {
		known := false
		for k := range Everything {
			known = known || k != Field && k.String() == name
		}
		if !known && len(byKind[name]) > 0 {
			return name
		}
	}
	return ""
}

func (p *payload) batch() (*Batch, error) {
	b := &Batch{
		Sink: p.Sink, Origin: Origin(p.Origin), Flush: p.Flush, Reason: p.Reason, Supersedes: p.Supersedes,
		Stamp: cdc.Stamp{
			Epoch:       p.Epoch,
			Position:    cdc.Position{SystemID: p.SystemID, Timeline: p.Timeline, LSN: p.LSN},
			XIDs:        make([]uint64, len(p.XIDs)),
			FirstCommit: p.First, LastCommit: p.Last,
		},
		Items: make([]Item, len(p.Items)),
	}
	x := uint64(0)
	for i, d := range p.XIDs {
		x += uint64(d)
		b.Stamp.XIDs[i] = x
	}
	for i := range p.Items {
		var err error
		if b.Items[i], err = decodeItem(&p.Items[i]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
