package pgoutput

import (
	"maps"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

// tree is what messages said of the partitions of a table. The rows of all of them come under the
// root's description, but an old row has what the replica identity of its own partition carries:
// the server decides that where the row lies. The root's own identity only says how the message
// marks the row, so it is not used.
//
// A row does not say which partition it is of. So a value counts as carried only if the identity
// of every partition described so far has the column. An actual value is always one that the old
// row had: only a NULL may be there because a value was not carried.
type tree struct {
	leaves map[uint32]leaf
	// count is how many partitions have each identity.
	count map[identity]int
	// root is the description that shown was made from.
	root, shown *cdc.Relation
	// whole reports that every partition has identity FULL.
	whole bool
}

type leaf struct {
	identity identity
	number   uint64
}

// identity is the columns that a table's old rows carry: their names, each ended by a NUL, or
// identityFull. PostgreSQL allows no NUL in a name.
type identity string

const identityFull identity = "full"

func identityOf(rel *cdc.Relation) identity {
	if rel.Identity == cdc.IdentityFull {
		return identityFull
	}
	var names strings.Builder
	for _, c := range rel.Columns {
		if c.Key {
			names.WriteString(c.Name)
			names.WriteByte(0)
		}
	}
	return identity(names.String())
}

func (i identity) has(column string) bool {
	return i == identityFull || slices.Contains(strings.Split(string(i), "\x00"), column)
}

// newTree returns a tree without partitions. It shows what like shows as long as both have the
// same identities, so that a pointer continues to identify a shape.
func newTree(like *tree) *tree {
	t := &tree{leaves: make(map[uint32]leaf), count: make(map[identity]int)}
	if like != nil {
		t.root, t.shown, t.whole = like.root, like.shown, like.whole
	}
	return t
}

// add takes the identity of a partition, in the place of what was known of it.
func (t *tree) add(oid uint32, is identity, number uint64) {
	before, known := t.leaves[oid]
	t.leaves[oid] = leaf{is, number}
	if known && before.identity == is {
		return
	}
	if t.count[is]++; t.count[is] == 1 {
		t.root = nil
	}
	if !known {
		return
	}
	if t.count[before.identity]--; t.count[before.identity] == 0 {
		delete(t.count, before.identity)
		t.root = nil
	}
}

// merge takes what is newer in another tree of the same root.
func (t *tree) merge(from *tree) {
	for oid, l := range from.leaves {
		if l.number > t.leaves[oid].number {
			t.add(oid, l.identity, l.number)
		}
	}
}

// shape returns the root with the identity that its rows have. It makes a new one only when
// that, or the root's description, has changed.
func (t *tree) shape(root *cdc.Relation) *cdc.Relation {
	if t.root == root {
		return t.shown
	}
	shown := *root
	shown.Partitioned, shown.Columns = true, slices.Clone(root.Columns)
	kinds := slices.Collect(maps.Keys(t.count))
	t.whole = !slices.ContainsFunc(kinds, func(is identity) bool { return is != identityFull })
	for i := range shown.Columns {
		c := &shown.Columns[i]
		c.Key = !slices.ContainsFunc(kinds, func(is identity) bool { return !is.has(c.Name) })
	}
	switch {
	case t.whole:
		shown.Identity = cdc.IdentityFull
	case root.Identity == cdc.IdentityFull || root.Identity == cdc.IdentityNothing:
		shown.Identity = cdc.IdentityDefault
	}
	if t.shown == nil || !sameShape(t.shown, &shown) {
		t.shown = &shown
	}
	t.root = root
	return t.shown
}

func sameShape(a, b *cdc.Relation) bool {
	return a.OID == b.OID && a.Schema == b.Schema && a.Name == b.Name && a.Identity == b.Identity &&
		a.Partitioned == b.Partitioned && slices.Equal(a.Columns, b.Columns)
}
