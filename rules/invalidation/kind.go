package invalidation

import (
	"slices"
	"strings"
)

// Kind is what an invalidation names.
type Kind uint8

// The kinds. A new kind is a constant here and a row of the table below; rules files, messages,
// manual purges, the stream, payloads, schemas and the documentation follow from the table.
const (
	Key        Kind = iota // a key of a Valkey or Redis cache, byte for byte
	Tag                    // a surrogate tag of an edge cache
	URL                    // an absolute URL
	URLPrefix              // host and path prefix, no scheme
	KeyPrefix              // all keys that begin with it
	Generation             // a counter that is raised
	Field                  // a field of a hash, byte for byte; see JoinField
	KeyPattern             // all keys that match a glob whose literal parts are escaped
	Everything             // all that the sink holds; Value is empty
	kinds
)

// NumKinds is the number of kinds.
const NumKinds = int(kinds)

// Form is how files and JSON write the values of a kind.
type Form uint8

const (
	// FormText is a list of texts.
	FormText Form = iota
	// FormField is a list of objects with a key and a field; see JoinField.
	FormField
	// FormFlag is true or false: the kind has no values.
	FormFlag
)

// kindRow describes a kind.
type kindRow struct {
	// name is the singular, as metrics and logs write it, and plural the name of lists.
	name, plural string
	// one describes a single value, for the help of a command; about describes a list, for schemas.
	one, about string
	form       Form
	// inRules is set where rules, messages and operators can name values.
	inRules bool
	// inFlush is set where the flush block of a sink can name values.
	inFlush bool
	// optional is set where items of the stream and of webhooks lack an empty list. The kinds of the
	// first version have a list always, since clients may rely on it.
	optional bool
	// since is the lowest version of payloads whose readers know the kind.
	since int
}

// table describes each kind.
var table = [NumKinds]kindRow{
	Key:       {name: "key", plural: "keys", one: "a key", about: "Keys of a key-value cache, like product:{id}.", inRules: true, since: 1},
	Tag:       {name: "tag", plural: "tags", one: "a tag", about: "Surrogate keys of a CDN, like product-{id}.", inRules: true, inFlush: true, since: 1},
	URL:       {name: "url", plural: "urls", one: "a URL", about: "Whole URLs.", inRules: true, since: 1},
	URLPrefix: {name: "url_prefix", plural: "url_prefixes", one: "host and beginning of the path", about: "Host and beginning of the path, without a scheme.", inRules: true, inFlush: true, since: 1},
	KeyPrefix: {name: "key_prefix", plural: "key_prefixes", one: "all keys that begin with this", about: "All keys that begin so; each ends in a literal delimiter.", inRules: true, since: 1},
	Generation: {
		name: "generation", plural: "generations", one: "a counter to raise", about: "Counters that keys contain, and that are raised.",
		inRules: true, inFlush: true, since: 1,
	},
	Field: {
		name: "field", plural: "fields", one: "the key of a hash; its field is the next argument", about: `Fields of hashes, like {key: products, field: "{id}"}.`,
		form: FormField, inRules: true, optional: true, since: 2,
	},
	KeyPattern: {name: "key_pattern", plural: "key_patterns", one: "all keys that match this glob pattern", about: "Glob patterns of keys.", inFlush: true, optional: true, since: 1},
	Everything: {name: "everything", plural: "everything", one: "all that the sink holds", about: "All that the sink holds.", form: FormFlag, inFlush: true, optional: true, since: 1},
}

// String names the kind in the singular, as metrics and logs write it.
func (k Kind) String() string {
	if int(k) < len(table) {
		return table[k].name
	}
	return "unknown"
}

// Plural names the kind as files write it.
func (k Kind) Plural() string {
	if int(k) < len(table) {
		return table[k].plural
	}
	return "unknown"
}

// Form is how files and JSON write the values of the kind.
func (k Kind) Form() Form { return table[k].form }

// One describes a single value, for the help of a command.
func (k Kind) One() string { return table[k].one }

// About describes the values in one sentence, for schemas.
func (k Kind) About() string { return table[k].about }

// All lists the kinds.
func All() []Kind { return kindsWhere(func(*kindRow) bool { return true }) }

// InRules lists the kinds that rules, messages and operators can name.
func InRules() []Kind { return kindsWhere(func(row *kindRow) bool { return row.inRules }) }

// InFlush lists the kinds that the flush block of a sink can name.
func InFlush() []Kind { return kindsWhere(func(row *kindRow) bool { return row.inFlush }) }

func kindsWhere(holds func(*kindRow) bool) (out []Kind) {
	for k := range table {
		if holds(&table[k]) {
			out = append(out, Kind(k))
		}
	}
	return out
}

// Plurals names kinds as files write them.
func Plurals(kk []Kind) []string {
	out := make([]string, len(kk))
	for i, k := range kk {
		out[i] = k.Plural()
	}
	return out
}

// KindSet is a set of kinds.
type KindSet uint16

// AllKinds is the set of all kinds.
const AllKinds KindSet = 1<<kinds - 1

// Kinds makes a set.
func Kinds(kk ...Kind) KindSet {
	var s KindSet
	for _, k := range kk {
		s |= 1 << k
	}
	return s
}

// Has reports whether k is in the set.
func (s KindSet) Has(k Kind) bool { return s&(1<<k) != 0 }

// String lists the kinds as files write them.
func (s KindSet) String() string {
	return strings.Join(Plurals(slices.DeleteFunc(All(), func(k Kind) bool { return !s.Has(k) })), ", ")
}

// Invalidation is one instruction to one sink: what kind, and which. Value may
// hold any bytes, UTF-8 or not.
type Invalidation struct {
	Kind  Kind
	Value string
	// Rule is the name of the rule that asked for it.
	Rule string
}
