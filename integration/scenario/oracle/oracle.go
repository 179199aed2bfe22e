package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Version is a version of a row or a list.
type Version struct {
	// Row names it, such as item:7 or store:3:items. It has no space and no equals sign.
	Row     string
	Version int64
}

// ParseVersions reads the form that applications send in a header: `item:7=1042 store:3:items=998`.
func ParseVersions(header string) ([]Version, error) {
	fields := strings.Fields(header)
	out := make([]Version, 0, len(fields))
	for _, f := range fields {
		at := strings.LastIndexByte(f, '=')
		if at <= 0 {
			return nil, fmt.Errorf("%q is not row=version", f)
		}
		n, err := strconv.ParseInt(f[at+1:], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not row=version: %w", f, err)
		}
		out = append(out, Version{f[:at], n})
	}
	return out, nil
}

// Commit is a version that was written. At is when COMMIT had returned.
type Commit struct {
	Version
	At time.Time
}

// Response is what a client was shown. Sent is when its request was sent. Group is what the
// responses are counted by, such as the endpoint.
type Response struct {
	Sent  time.Time
	Group string
	Shown []Version
}

// Oracle collects commits and responses. The zero value is ready, and it may be used by several
// goroutines.
type Oracle struct {
	mu        sync.Mutex
	commits   map[string][]Commit
	responses []Response
}

// Committed records versions that were written.
func (o *Oracle) Committed(commits ...Commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.commits == nil {
		o.commits = map[string][]Commit{}
	}
	for _, c := range commits {
		o.commits[c.Row] = append(o.commits[c.Row], c)
	}
}

// Responded records what a client was shown.
func (o *Oracle) Responded(r Response) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.responses = append(o.responses, r)
}

// Staleness counts responses by the age of what they showed.
type Staleness struct {
	Responses int `json:"responses"`
	// Stale responses showed at least one version that had been replaced before the request.
	Stale     int `json:"stale"`
	Over100ms int `json:"over_100ms"`
	Over1s    int `json:"over_1s"`
	// Oldest is the greatest age. Ages are as measured, without the time factor.
	Oldest time.Duration `json:"oldest_ns"`
	// P50 is the median age of the stale responses, 0 if none is.
	P50 time.Duration `json:"age_p50_ns"`
	// Example names a row and the versions of the oldest response.
	Example string `json:"example,omitempty"`
}

// Share is the part of the responses that were stale, from 0 to 1.
func (s Staleness) Share() float64 {
	if s.Responses == 0 {
		return 0
	}
	return float64(s.Stale) / float64(s.Responses)
}

// ShareOver1s is the part of the responses that were older than a second.
func (s Staleness) ShareOver1s() float64 {
	if s.Responses == 0 {
		return 0
	}
	return float64(s.Over1s) / float64(s.Responses)
}

// Judge counts all responses that were recorded, and those of each group, and forgets them. The
// commits stay: a later response may still show what they replaced.
func (o *Oracle) Judge() (all Staleness, groups map[string]Staleness) {
	o.mu.Lock()
	responses := o.responses
	o.responses = nil
	for row := range o.commits {
		slices.SortFunc(o.commits[row], func(a, b Commit) int { return int(a.Version.Version - b.Version.Version) })
	}
	earliest := make(map[string][]time.Time, len(o.commits))
	for row, commits := range o.commits {
		earliest[row] = suffixMinimum(commits)
	}
	commits := make(map[string][]Commit, len(o.commits))
	for row := range o.commits {
		commits[row] = slices.Clone(o.commits[row])
	}
	o.mu.Unlock()

	counts := map[string]*tally{}
	var total tally
	for _, r := range responses {
		age, example := r.age(commits, earliest)
		group := counts[r.Group]
		if group == nil {
			group = &tally{}
			counts[r.Group] = group
		}
		for _, t := range []*tally{&total, group} {
			t.add(age, example)
		}
	}
	groups = make(map[string]Staleness, len(counts))
	for name, t := range counts {
		groups[name] = t.staleness()
	}
	return total.staleness(), groups
}

// suffixMinimum returns, for each place in commits, which are sorted by version, the earliest time
// of a commit at or behind that place.
func suffixMinimum(commits []Commit) []time.Time {
	out := make([]time.Time, len(commits))
	for i := len(commits) - 1; i >= 0; i-- {
		out[i] = commits[i].At
		if i+1 < len(out) && out[i+1].Before(out[i]) {
			out[i] = out[i+1]
		}
	}
	return out
}

// age is how long before the request the oldest version shown had been replaced, and 0 if none had.
func (r Response) age(commits map[string][]Commit, earliest map[string][]time.Time) (age time.Duration, example string) {
	for _, shown := range r.Shown {
		of := commits[shown.Row]
		next, _ := slices.BinarySearchFunc(of, shown.Version+1, func(c Commit, version int64) int { return int(c.Version.Version - version) })
		if next == len(of) {
			continue
		}
		if replaced := r.Sent.Sub(earliest[shown.Row][next]); replaced > age {
			age = replaced
			example = fmt.Sprintf("%s at version %d, though %d was committed %s before the request", shown.Row, shown.Version, of[next].Version.Version, replaced.Round(time.Millisecond))
		}
	}
	return age, example
}

type tally struct {
	counts Staleness
	ages   []time.Duration
}

func (t *tally) add(age time.Duration, example string) {
	t.counts.Responses++
	if age <= 0 {
		return
	}
	t.counts.Stale++
	t.ages = append(t.ages, age)
	if age > 100*time.Millisecond {
		t.counts.Over100ms++
	}
	if age > time.Second {
		t.counts.Over1s++
	}
	if age > t.counts.Oldest {
		t.counts.Oldest, t.counts.Example = age, example
	}
}

func (t *tally) staleness() Staleness {
	s := t.counts
	if len(t.ages) > 0 {
		slices.Sort(t.ages)
		s.P50 = t.ages[(len(t.ages)-1)/2]
	}
	return s
}
