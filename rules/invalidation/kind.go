package invalidation

// Kind is what an invalidation names.
type Kind uint8

// The kinds, in the order of the stream's payload.
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

// kindNames are the singular, as metrics and logs write it, and the plural, as files do.
var kindNames = [...][2]string{
	Key: {"key", "keys"}, Tag: {"tag", "tags"}, URL: {"url", "urls"}, URLPrefix: {"url_prefix", "url_prefixes"}, KeyPrefix: {"key_prefix", "key_prefixes"},
	Generation: {"generation", "generations"}, Field: {"field", "fields"}, KeyPattern: {"key_pattern", "key_patterns"}, Everything: {"everything", "everything"},
}

// String names the kind in the singular, as metrics and logs write it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k][0]
	}
	return "unknown"
}

// Plural names the kind as files write it.
func (k Kind) Plural() string {
	if int(k) < len(kindNames) {
		return kindNames[k][1]
	}
	return "unknown"
}

// KindSet is a set of kinds.
type KindSet uint16

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

// Invalidation is one instruction to one sink: what kind, and which. Value may
// hold any bytes, UTF-8 or not.
type Invalidation struct {
	Kind  Kind
	Value string
	// Rule is the name of the rule that asked for it.
	Rule string
}
