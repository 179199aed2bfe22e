package invalidation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// payload is the JSON form of a batch. Its version is the lowest whose readers know all kinds in
// it: readers of version 1 would take a message with fields of hashes for one without values.
// Readers must ignore members that they do not know, but not those of an item: they may be values.
type payload struct {
	V        int        `json:"v"`
	Pipeline string     `json:"pipeline"`
	Sink     string     `json:"sink"`
	Origin   string     `json:"origin"`
	LSN      cdc.LSN    `json:"lsn"`
	SystemID string     `json:"system_id"`
	Timeline uint32     `json:"timeline"`
	Epoch    uint64     `json:"epoch"`
	XIDs     []int64    `json:"xids"` // the first absolute, each next as the difference to the one before
	First    time.Time  `json:"first_committed_at"`
	Last     time.Time  `json:"committed_at"`
	Items    []wireItem `json:"items"`
	Flush    bool       `json:"flush"`
	Reason   string     `json:"reason"`

	Supersedes uint64 `json:"supersedes"`
}

var (
	// itemLayout is how an item holds its values.
	itemLayout = NewLayout(AllKinds, Required(), append(withoutOptional(), KeyPattern)...)
	// stepLayout is how a step of an item's collapse holds its values. No step has patterns, or
	// everything.
	stepLayout = NewLayout(Kinds(InRules()...), 0)
)

func withoutOptional() []Kind { return kindsWhere(func(row *kindRow) bool { return !row.optional }) }

// wireItem is an item that was read, and the first member that this version does not know.
type wireItem struct {
	Item
	unknown string
}

// UnmarshalJSON reads an item. A null is an empty one.
func (i *wireItem) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return itemLayout.Read(data, &i.Values, func(member string, value json.RawMessage) error {
		switch strings.ToLower(member) {
		case "rule":
			return json.Unmarshal(value, &i.Rule)
		case "collapse":
			var steps []wireStep
			if err := json.Unmarshal(value, &steps); err != nil {
				return err
			}
			i.setSteps(steps)
		case "every":
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return err
			}
			return i.setEvery(text)
		case "unbuilt":
			var all []unbuilt
			if err := json.Unmarshal(value, &all); err != nil {
				return err
			}
			i.Unbuilt = decodeUnbuilt(all)
		default:
			i.mention(member, value)
		}
		return nil
	})
}

func (i *wireItem) setSteps(steps []wireStep) {
	i.Coarser = nil
	for _, s := range steps {
		i.Coarser = append(i.Coarser, s.CoarserValues)
		if i.unknown == "" {
			i.unknown = s.unknown
		}
	}
}

func (i *wireItem) setEvery(text string) (err error) {
	i.Every = 0
	if text == "" {
		return nil
	}
	if i.Every, err = time.ParseDuration(text); err != nil {
		return fmt.Errorf("every: %w", err)
	}
	return nil
}

// mention records a member that this version does not know, unless it asks for nothing.
func (i *wireItem) mention(member string, value json.RawMessage) {
	if i.unknown == "" && !emptyJSON(value) {
		i.unknown = member
	}
}

// wireStep is a step of an item's collapse that was read.
type wireStep struct {
	CoarserValues
	unknown string
}

// UnmarshalJSON reads a step. A null is an empty one.
func (s *wireStep) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return stepLayout.Read(data, &s.Values, func(member string, value json.RawMessage) error {
		switch {
		case strings.EqualFold(member, "over"):
			return json.Unmarshal(value, &s.Over)
		case s.unknown == "" && !emptyJSON(value):
			s.unknown = member
		}
		return nil
	})
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

// decodeUnbuilt reads a kind that this program does not know as Everything, which can be any.
func decodeUnbuilt(all []unbuilt) []Unbuilt {
	var out []Unbuilt
	for _, u := range all {
		of := slices.IndexFunc(table[:], func(row kindRow) bool { return row.name == u.Of })
		if of < 0 {
			of = int(Everything)
		}
		out = append(out, Unbuilt{Template: u.Template, Of: Kind(of), Count: u.Count})
	}
	return out
}

// UnknownKindError says that a message names values of a kind that this version does not know: a
// newer version wrote it.
type UnknownKindError struct{ Member string }

// Error names the member of the message.
func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("it names %q, which this version of walpurge does not know; run the version that wrote it, or a newer one", e.Member)
}

// newest is the version of payloads that this program writes at most.
func newest() int {
	return slices.MaxFunc(table[:], func(a, b kindRow) int { return a.since - b.since }).since
}

// Decode reads the payload of a message. With an *UnknownKindError, the batch is there as far as
// it is known.
func Decode(data []byte) (*Batch, error) {
	var p payload
	if !readCanonical(data, &p) {
		p = payload{}
		if err := json.Unmarshal(data, &p); err != nil {
			return nil, err
		}
	}
	if p.V < 1 || p.V > newest() {
		return nil, fmt.Errorf("payload version %d, this program knows versions up to %d", p.V, newest())
	}
	b := p.batch()
	for i := range p.Items {
		if p.Items[i].unknown != "" {
			return b, &UnknownKindError{p.Items[i].unknown}
		}
	}
	return b, nil
}

// emptyJSON reports whether a value asks for nothing.
func emptyJSON(raw json.RawMessage) bool {
	return slices.Contains([]string{"null", "[]", "{}", "false", "0", `""`}, string(bytes.Join(bytes.Fields(raw), nil)))
}

func (p *payload) batch() *Batch {
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
		b.Items[i] = p.Items[i].Item
	}
	return b
}
