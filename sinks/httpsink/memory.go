package httpsink

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Sum names a content.
type Sum [sha256.Size]byte

// SumOf names a batch by its kinds and values, in their order.
func SumOf(batch []invalidation.Invalidation) Sum {
	h := sha256.New()
	for _, inv := range batch {
		head := binary.AppendUvarint([]byte{byte(inv.Kind)}, uint64(len(inv.Value)))
		h.Write(head)
		h.Write([]byte(inv.Value))
	}
	return Sum(h.Sum(nil))
}

// maxKept bounds a memory.
const maxKept = 64

// Memory holds what is known of calls that failed, so that a repetition is
// recognised. A later call of equal content is no repetition, and must not be
// taken for one: so a sink that remembers a call forgets it as soon as its outcome
// is known, and past the memory's time it forgets by itself. To forget too early
// costs a second purge; to remember for too long would lose one.
//
// It is not safe for concurrent use.
type Memory[V any] struct {
	keep    time.Duration
	entries map[Sum]entry[V]
}

type entry[V any] struct {
	value V
	since time.Time
}

// NewMemory returns a memory that keeps each thing for so long.
func NewMemory[V any](keep time.Duration) *Memory[V] {
	return &Memory[V]{keep: keep, entries: make(map[Sum]entry[V])}
}

// Recall returns what is remembered of a content.
func (m *Memory[V]) Recall(s Sum, now time.Time) (V, bool) {
	e, ok := m.entries[s]
	if !ok || now.Sub(e.since) >= m.keep {
		delete(m.entries, s)
		var zero V
		return zero, false
	}
	return e.value, true
}

// Remember keeps something about a content; its time runs from when the content
// was first remembered.
func (m *Memory[V]) Remember(s Sum, v V, now time.Time) {
	if e, ok := m.entries[s]; ok && now.Sub(e.since) < m.keep {
		now = e.since
	}
	if len(m.entries) >= maxKept {
		clear(m.entries)
	}
	m.entries[s] = entry[V]{value: v, since: now}
}

// Forget drops a content.
func (m *Memory[V]) Forget(s Sum) { delete(m.entries, s) }

// Clear drops everything.
func (m *Memory[V]) Clear() { clear(m.entries) }
