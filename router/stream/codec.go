package stream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// payload is the JSON form of a batch, version 1. Readers must ignore members
// they do not know.
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
	Everything  bool                `json:"everything,omitempty"`
	Base64      map[string][]string `json:"base64,omitempty"`
	Collapse    []coarser           `json:"collapse,omitempty"`
	Every       string              `json:"every,omitempty"`
	Unbuilt     []unbuilt           `json:"unbuilt,omitempty"`
}

// unbuilt is the JSON form of a template whose values could not be built.
type unbuilt struct {
	Template string `json:"template"`
	Of       string `json:"of"`
	Count    int    `json:"count"`
}

func encodeUnbuilt(all []rules.Unbuilt) []unbuilt {
	out := make([]unbuilt, len(all))
	for i, u := range all {
		out[i] = unbuilt{Template: u.Template, Of: u.Of.String(), Count: u.Count}
	}
	return out
}

// decodeUnbuilt takes a kind that this program does not know for one that may be any.
func decodeUnbuilt(all []unbuilt) []rules.Unbuilt {
	var out []rules.Unbuilt
	for _, u := range all {
		of := rules.Everything
		for k := range rules.Everything {
			if k.String() == u.Of {
				of = k
			}
		}
		out = append(out, rules.Unbuilt{Template: u.Template, Of: of, Count: u.Count})
	}
	return out
}

func (i *item) list(k rules.Kind) *[]string {
	switch k {
	case rules.Key:
		return &i.Keys
	case rules.Tag:
		return &i.Tags
	case rules.URL:
		return &i.URLs
	case rules.URLPrefix:
		return &i.URLPrefixes
	case rules.KeyPrefix:
		return &i.KeyPrefixes
	case rules.Generation:
		return &i.Generations
	case rules.KeyPattern:
		return &i.KeyPatterns
	}
	return nil
}

func decodeItem(in *item) (rules.Item, error) {
	out := rules.Item{Rule: in.Rule}
	for k := range out.Values {
		kind := rules.Kind(k)
		if kind == rules.Everything {
			if in.Everything {
				out.Values[k] = []string{""}
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

// Decode reads the payload of a message.
func Decode(data []byte) (*rules.Batch, error) {
	var p payload
	if !readOwn(data, &p) {
		p = payload{}
		if err := json.Unmarshal(data, &p); err != nil {
			return nil, err
		}
	}
	if p.V != 1 {
		return nil, fmt.Errorf("payload version %d, this program knows version 1", p.V)
	}
	b := &rules.Batch{
		Sink: p.Sink, Origin: rules.Origin(p.Origin), Flush: p.Flush, Reason: p.Reason, Supersedes: p.Supersedes,
		Stamp: cdc.Stamp{
			Epoch:       p.Epoch,
			Position:    cdc.Position{SystemID: p.SystemID, Timeline: p.Timeline, LSN: p.LSN},
			XIDs:        make([]uint64, len(p.XIDs)),
			FirstCommit: p.First, LastCommit: p.Last,
		},
		Items: make([]rules.Item, len(p.Items)),
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

// progress is the JSON form of a claim, version 1.
type progress struct {
	V        int       `json:"v"`
	Epoch    uint64    `json:"epoch"`
	Counter  uint64    `json:"counter"`
	Claim    cdc.LSN   `json:"claim"`
	SystemID string    `json:"system_id"`
	Database uint32    `json:"database,omitempty"`
	Timeline uint32    `json:"timeline"`
	Time     time.Time `json:"committed_at"`
}

func encodeClaim(c cdc.Claim) ([]byte, error) {
	return json.Marshal(progress{
		V: 1, Epoch: c.Epoch, Counter: c.Counter, Claim: c.Position.LSN,
		SystemID: c.Position.SystemID, Database: c.Database, Timeline: c.Position.Timeline, Time: c.CommitTime.UTC(),
	})
}

func decodeClaim(data []byte) (cdc.Claim, error) {
	var p progress
	if err := json.Unmarshal(data, &p); err != nil {
		return cdc.Claim{}, err
	}
	if p.V != 1 {
		return cdc.Claim{}, fmt.Errorf("progress version %d, this program knows version 1", p.V)
	}
	return cdc.Claim{
		Epoch: p.Epoch, Counter: p.Counter, CommitTime: p.Time, Database: p.Database,
		Position: cdc.Position{SystemID: p.SystemID, Timeline: p.Timeline, LSN: p.Claim},
	}, nil
}
