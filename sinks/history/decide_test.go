package history

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var zero = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return zero.Add(time.Duration(seconds) * time.Second) }

func parts(ids ...string) map[string]string {
	m := map[string]string{}
	for _, id := range ids {
		m[id] = id
	}
	return m
}

// cache is the target of the tests, seed the record: places each ten seconds from 0 to 100, with the floor
// of as many hundreds and the offset of as many thousands, of a process that has saved at 50.
var cache = Target{Kind: "valkey", Scope: "0", Parts: parts("a:6379")}

func seed(change func(*Record)) *Record {
	r := &Record{Target: cache, Seen: at(100), Nodes: []Known{{Run: "run1", Repl: "repl1", Saved: 50, SavedAt: at(50), Loaded: 0}}}
	for s := 0; s <= 100; s += 10 {
		r.Places = append(r.Places, Place{Floor: uint64(s * 100), Manual: uint64(s / 50), At: at(s), Offsets: map[string]int64{"repl1": int64(s * 1000)}})
	}
	if change != nil {
		change(r)
	}
	return r
}

func node(change func(*Node)) Node {
	n := Node{Run: "run2", Repl: "repl2", Uptime: time.Second, Saved: 105, SavedAge: 5 * time.Second, Loaded: 20}
	if change != nil {
		change(&n)
	}
	return n
}

func TestDecide(t *testing.T) {
	// purge is an answer that purges what came after floor, and flushes unless the stream reaches back to reach.
	purge := func(why Reason, floor, reach uint64, since int) Decision {
		return Decision{Answer: Purge, Reason: why, After: floor, Reach: reach, Manual: reach / 5000, Since: at(since)}
	}
	same := Decision{Answer: Same}
	flush := func(why Reason) Decision { return Decision{Answer: Flush, Reason: why, Since: at(100)} }
	twoNodes := func(r *Record) {
		r.Nodes = []Known{{ID: "n1", Run: "run1", Repl: "repl1", SavedAt: at(50)}, {ID: "n2", Run: "run9", Repl: "repl9", SavedAt: at(50)}}
		for i := range r.Places {
			r.Places[i].Offsets["repl9"] = int64(i)
		}
	}
	other := Node{ID: "n2", Run: "run9", Repl: "repl9"}

	for name, c := range map[string]struct {
		record *Record
		target *Target // nil: as before
		nodes  []Node
		now    int
		want   Decision
	}{
		"as it was": {nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 50}}, now: 101, want: same},
		"as it was, under another host name": {target: &Target{Kind: "valkey", Scope: "0", Parts: parts("b:6379")},
			nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 50}}, now: 101, want: same},
		"its first replica has connected":                  {nodes: []Node{{Run: "run1", Repl: "repl2"}}, now: 101, want: same},
		"another history after a long time":                {nodes: []Node{{Run: "run1", Repl: "repl2"}}, now: 200, want: purge(Failover, 0, 0, 0)},
		"it was a replica of an unknown primary":           {nodes: []Node{{Run: "run1", Repl: "repl3", Prior: "repl2", PriorOffset: 9}}, now: 101, want: purge(Failover, 0, 0, 0)},
		"REPLICAOF and back at once":                       {nodes: []Node{{Run: "run1", Repl: "repl2", Prior: "repl1", PriorOffset: 100500}}, now: 101, want: purge(Failover, 10000, 10000, 100)},
		"it has saved":                                     {nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 90}}, now: 101, want: same},
		"DEBUG RELOAD":                                     {nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 101, Loaded: 5}}, now: 101, want: same},
		"DEBUG RELOAD NOSAVE":                              {nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 50, Loaded: 5}}, now: 101, want: purge(Reloaded, 0, 4000, 40)},
		"a replica that had everything":                    {nodes: []Node{node(func(n *Node) { n.Prior, n.PriorOffset, n.Uptime = "repl1", 100400, time.Hour })}, now: 101, want: purge(Failover, 10000, 10000, 100)},
		"a replica that lacked a part":                     {nodes: []Node{node(func(n *Node) { n.Prior, n.PriorOffset, n.Uptime = "repl1", 79999, time.Hour })}, now: 101, want: purge(Failover, 7000, 7000, 70)},
		"a replica that lacked more than is known":         {record: seed(func(r *Record) { r.Places = r.Places[5:] }), nodes: []Node{node(func(n *Node) { n.Prior, n.PriorOffset = "repl1", 9 })}, now: 101, want: purge(Failover, 0, 0, 50)},
		"restarted from a snapshot that knows its history": {nodes: []Node{node(func(n *Node) { n.Prior, n.PriorOffset = "repl1", 50000 })}, now: 105, want: purge(Failover, 5000, 5000, 50)},
		"restarted from a snapshot of another history":     {nodes: []Node{node(func(n *Node) { n.Prior, n.PriorOffset = "older", 1<<40 })}, now: 105, want: purge(Restarted, 0, 0, 0)},
		"restarted":                           {nodes: []Node{node(nil)}, now: 105, want: purge(Restarted, 0, 4000, 40)},
		"restarted while the daemon was down": {nodes: []Node{node(func(n *Node) { n.Uptime = time.Hour })}, now: 7000, want: purge(Restarted, 0, 4000, 40)},
		"restarted from an older save":        {record: seed(func(r *Record) { r.Nodes[0].SavedAt = at(-500) }), nodes: []Node{node(nil)}, now: 105, want: purge(Restarted, 0, 0, 0)},
		"restarted, of an older version":      {nodes: []Node{node(func(n *Node) { n.Loaded = -1 })}, now: 105, want: purge(Restarted, 0, 4000, 40)},
		"restarted with a file of writes":     {record: seed(func(r *Record) { r.Nodes[0].AOF = true }), nodes: []Node{node(func(n *Node) { n.AOF, n.Loaded = true, 0 })}, now: 105, want: purge(Restarted, 0, 9000, 90)},
		"restarted empty":                     {nodes: []Node{node(func(n *Node) { n.Loaded = 0 })}, now: 105, want: purge(Restarted, 10000, 10000, 100)},
		"restarted empty an hour ago":         {nodes: []Node{node(func(n *Node) { n.Loaded, n.Uptime = 0, time.Hour })}, now: 3705, want: purge(Restarted, 10000, 10000, 100)},
		"restarted empty as the record began": {record: seed(func(r *Record) { r.Places = []Place{{Floor: 7, At: at(104)}} }),
			nodes: []Node{node(func(n *Node) { n.Loaded = 0 })}, now: 105, want: Decision{Answer: Purge, Reason: Restarted, After: 7, Reach: 7, Since: at(104)}},
		"the address leads to a server that began empty":       {nodes: []Node{node(func(n *Node) { n.Loaded, n.Uptime = 0, 40*time.Second })}, now: 101, want: purge(Restarted, 5000, 5000, 50)},
		"the address leads to a server that has run for long":  {nodes: []Node{node(func(n *Node) { n.Uptime = time.Hour })}, now: 101, want: flush(Replaced)},
		"the address leads to one that ran, of an old version": {nodes: []Node{node(func(n *Node) { n.Uptime, n.Loaded = time.Hour, -1 })}, now: 101, want: flush(Replaced)},
		"another address and another server": {target: &Target{Kind: "valkey", Scope: "0", Parts: parts("b:6379")},
			nodes: []Node{node(func(n *Node) { n.Loaded = 0 })}, now: 105, want: flush(NewTarget)},
		"another address and a server with a snapshot": {target: &Target{Kind: "valkey", Scope: "0", Parts: parts("b:6379")}, nodes: []Node{node(nil)}, now: 105, want: flush(NewTarget)},
		"another address of the promoted replica": {target: &Target{Kind: "valkey", Scope: "0", Parts: parts("b:6379")},
			nodes: []Node{node(func(n *Node) { n.Prior, n.PriorOffset, n.Uptime = "repl1", 100400, time.Hour })}, now: 101, want: purge(Failover, 10000, 10000, 100)},
		"an added host":    {target: &Target{Kind: "valkey", Scope: "0", Parts: parts("a:6379", "b:6379")}, nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 50}}, now: 101, want: same},
		"another database": {target: &Target{Kind: "valkey", Scope: "1", Parts: parts("a:6379")}, nodes: []Node{{Run: "run1", Repl: "repl1", Saved: 50}}, now: 101, want: flush(NewTarget)},
		"another kind":     {target: &Target{Kind: "varnish", Parts: parts("a:6379")}, now: 101, want: flush(NewTarget)},

		"cluster as it was":               {record: seed(twoNodes), nodes: []Node{{ID: "n1", Run: "run1", Repl: "repl1"}, other}, now: 101, want: same},
		"a node of a cluster failed over": {record: seed(twoNodes), nodes: []Node{node(func(n *Node) { n.ID, n.Prior, n.PriorOffset = "n3", "repl1", 79999 }), other}, now: 101, want: purge(Failover, 7000, 7000, 70)},
		"two nodes of a cluster": {record: seed(twoNodes), nodes: []Node{
			node(func(n *Node) { n.ID, n.Prior, n.PriorOffset = "n3", "repl1", 79999 }),
			node(func(n *Node) { n.ID, n.Prior, n.PriorOffset = "n4", "repl9", 2 }),
		}, now: 101, want: purge(Failover, 2000, 2000, 20)},
		"a node of a cluster restarted":     {record: seed(twoNodes), nodes: []Node{node(func(n *Node) { n.ID = "n1" }), other}, now: 105, want: purge(Restarted, 0, 4000, 40)},
		"a node joined a cluster":           {record: seed(twoNodes), nodes: []Node{{ID: "n1", Run: "run1", Repl: "repl1"}, other, node(func(n *Node) { n.ID, n.Loaded = "n5", 0 })}, now: 105, want: same},
		"a node joined with keys":           {record: seed(twoNodes), nodes: []Node{{ID: "n1", Run: "run1", Repl: "repl1"}, other, node(func(n *Node) { n.ID = "n5" })}, now: 105, want: purge(Failover, 0, 0, 0)},
		"an unknown replica took over":      {record: seed(twoNodes), nodes: []Node{node(func(n *Node) { n.ID, n.Prior = "n5", "other" }), other}, now: 105, want: purge(Failover, 0, 0, 0)},
		"a node left a cluster":             {record: seed(twoNodes), nodes: []Node{other}, now: 105, want: same},
		"another cluster at the address":    {record: seed(twoNodes), nodes: []Node{{ID: "x1", Run: "rx", Repl: "px"}}, now: 105, want: flush(Replaced)},
		"another cluster":                   {record: seed(twoNodes), target: &Target{Kind: "valkey", Scope: "0", Parts: parts("x:1")}, nodes: []Node{{ID: "x1", Run: "rx", Repl: "px"}}, now: 105, want: flush(NewTarget)},
		"standalone to cluster":             {target: &Target{Kind: "valkey", Scope: "0", Parts: parts("x:1", "y:1")}, nodes: []Node{{ID: "x1", Run: "rx", Repl: "px"}}, now: 105, want: flush(NewTarget)},
		"standalone to cluster, same place": {nodes: []Node{node(func(n *Node) { n.ID = "x1" })}, now: 105, want: purge(Failover, 0, 0, 0)},
		"cluster to standalone":             {record: seed(twoNodes), nodes: []Node{node(nil)}, now: 105, want: purge(Failover, 0, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			r, target := c.record, cache
			if r == nil {
				r = seed(nil)
			}
			if c.target != nil {
				target = *c.target
			}
			require.Equal(t, c.want, Decide(r, target, c.nodes, at(c.now)))
		})
	}
}

// Sinks that cannot tell one state of a cache from another are known by the ids of their provider.
func TestMovedTargets(t *testing.T) {
	for name, c := range map[string]struct {
		was, is map[string]string
		moved   bool
	}{
		"the same zone":              {map[string]string{"": "z1"}, map[string]string{"": "z1"}, false},
		"a new zone":                 {map[string]string{"": "z1"}, map[string]string{"": "z2"}, true},
		"zones in place of one":      {map[string]string{"": "z1"}, map[string]string{"shop.example": "z1", "shop.de": "z2"}, false},
		"one in place of zones":      {map[string]string{"shop.example": "z1", "shop.de": "z2"}, map[string]string{"": "z2"}, false},
		"a zone for another host":    {map[string]string{"shop.example": "z1"}, map[string]string{"shop.example": "z1", "shop.de": "z2"}, false},
		"another zone for a host":    {map[string]string{"shop.example": "z1", "shop.de": "z2"}, map[string]string{"shop.example": "z1", "shop.de": "z3"}, true},
		"zones that changed places":  {map[string]string{"shop.example": "z1", "shop.de": "z2"}, map[string]string{"shop.example": "z2", "shop.de": "z1"}, true},
		"an added node":              {parts("a", "b"), parts("a", "b", "c"), false},
		"a removed node":             {parts("a", "b"), parts("b"), false},
		"all nodes but one replaced": {parts("a", "b", "c"), parts("c", "d", "e"), false},
		"all nodes replaced":         {parts("a", "b"), parts("c", "d"), true},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(&Record{Target: Target{Kind: "edge", Parts: c.was}, Seen: at(1)}, Target{Kind: "edge", Parts: c.is}, nil, at(2))
			if c.moved {
				require.Equal(t, Decision{Answer: Flush, Reason: NewTarget, Since: at(1)}, d)
			} else {
				require.Equal(t, Decision{Answer: Same}, d)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	r := &Record{}
	n := Node{Run: "run1", Repl: "repl1", Saved: 1000, SavedAge: 20 * time.Second}
	require.True(t, r.Update(cache, []Node{n}, 5, 0, at(100)))
	require.Equal(t, []Known{{Run: "run1", Repl: "repl1", Saved: 1000, SavedAt: at(80)}}, r.Nodes)
	n.Offset = 7
	require.False(t, r.Update(cache, []Node{n}, 5, 0, at(101)), "the older place with one floor is easier to prove")
	require.Equal(t, []Place{{Floor: 5, At: at(100), Offsets: map[string]int64{"repl1": 0}}}, r.Places)
	require.Equal(t, at(101), r.Seen)
	require.True(t, r.Update(cache, []Node{n}, 5, 1, at(102)), "a manual purge")
	n.Repl = "repl2"
	require.True(t, r.Update(cache, []Node{n}, 5, 1, at(103)), "its first replica")
	require.Len(t, r.Places, 3)

	// What is to be purged again counts as not purged until the lane has passed it.
	r.Restart(Decision{Answer: Purge, Reason: Failover, After: 3, Reach: 3, Since: at(99)}, 50, at(104))
	n = Node{Run: "run2", Repl: "repl3", Offset: 9}
	require.True(t, r.Update(cache, []Node{n}, 40, 0, at(105)))
	n.Offset = 12
	require.False(t, r.Update(cache, []Node{n}, 49, 0, at(106)))
	require.Equal(t, []Place{{Floor: 3, At: at(104), Offsets: map[string]int64{"repl3": 9}}}, r.Places)
	require.Equal(t, uint64(50), r.Until)
	require.True(t, r.Update(cache, []Node{n}, 50, 0, at(107)))
	require.Zero(t, r.Until)
	require.Equal(t, uint64(50), r.Places[1].Floor)

	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back Record
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, *r, back)
}

// TestPlacesProve: whatever a promoted replica holds, what is purged again includes all that was purged and
// that it lacks, though places are dropped.
func TestPlacesProve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Record{}
		offset, floor := int64(0), uint64(0)
		type purge struct {
			seq    uint64
			offset int64
		}
		var purged []purge
		looks := rapid.IntRange(1, 300).Draw(t, "looks")
		for look := range looks {
			r.Update(cache, []Node{{Run: "run1", Repl: "repl1", Offset: offset}}, floor, 0, at(look))
			for range rapid.IntRange(0, 3).Draw(t, "purges") {
				floor, offset = floor+1, offset+1
				purged = append(purged, purge{floor, offset})
			}
			offset += int64(rapid.IntRange(0, 5).Draw(t, "writes"))
		}
		require.LessOrEqual(t, len(r.Places), maxPlaces)
		has := rapid.Int64Range(0, offset).Draw(t, "has")
		d := Decide(r, cache, []Node{{Run: "run2", Repl: "repl2", Prior: "repl1", PriorOffset: has}}, at(looks))
		require.Equal(t, Purge, d.Answer)
		for _, p := range purged {
			if p.offset > has {
				require.Greater(t, p.seq, d.After, strconv.FormatInt(p.offset, 10))
			}
		}
	})
}
